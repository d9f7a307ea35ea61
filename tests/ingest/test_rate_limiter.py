"""The HTTP connector's limit for a device, and its answer."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from connecting import V2, Connection
from pytest_django import Settings
from support import Account

from ingest.connectors import http_view
from thingscale.lib import rate_limiter as module
from thingscale.lib.rate_limiter import FailureLimiter, RateLimiter


@pytest.fixture
def limited(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """To one a second, and the second does not pass, however long a test takes."""
    settings.HTTP_RATE = 1
    monkeypatch.setattr("ingest.connectors.http.time", SimpleNamespace(monotonic=lambda: 100.0))
    http_view.rate_limiter.cache_clear()
    yield
    http_view.rate_limiter.cache_clear()


def remembered(pace: RateLimiter) -> int:
    """Devices."""
    return sum(len(devices) for each in (pace._due, pace._older) for devices in each.values())


def test_one_a_second_with_some_jitter() -> None:
    pace = RateLimiter(1)
    times = [100.0, 100.05, 100.6, 101.7, 102.5]
    assert [pace.wait(1, "d1", now) > 0 for now in times] == [False, True, False, False, False]


def test_a_burst_is_refused_until_its_time() -> None:
    pace = RateLimiter(1)
    assert pace.wait(1, "d1", 50.0) == 0
    wait = pace.wait(1, "d1", 50.1)
    assert 0 < wait <= 1
    assert pace.wait(1, "d1", 50.1 + wait) == 0


def test_on_average_it_is_the_rate() -> None:
    pace = RateLimiter(1)
    accepted = sum(pace.wait(1, "d1", 10 + tick / 100) == 0 for tick in range(1000))
    assert 10 <= accepted <= 11


def test_devices_do_not_disturb_each_other_and_silent_ones_are_forgotten() -> None:
    pace = RateLimiter(1)
    assert all(pace.wait(1, str(number), 5.0) == 0 for number in range(10_000))
    for now in (8.0, 12.0):
        pace.wait(1, "d1", now)
    assert remembered(pace) <= 2


def test_b4_the_same_device_id_is_another_accounts_device() -> None:
    pace = RateLimiter(1)
    assert pace.wait(1, "d1", 5.0) == pace.wait(2, "d1", 5.0) == 0
    assert pace.left(3, "d1", 5.0) == 1
    assert pace.wait(1, "d1", 5.1) > 0 < pace.wait(2, "d1", 5.1)


def test_b4_an_account_that_makes_up_device_ids_gets_no_more_and_nobody_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_DEVICES", 100)
    pace = RateLimiter(1)
    assert [pace.wait(owner, "d1", 5.0) for owner in (1, 2)] == [0, 0]
    answers = [pace.wait(2, f"made up {number}", 5.0 + number / 10_000) for number in range(1_000)]
    assert answers == [0] * 98 + [1.0] * 902
    assert pace.left(2, "made up 999", 5.2) == 0
    assert all(pace.wait(owner, "d1", 5.2) > 0 for owner in (1, 2))
    assert all(pace.wait(2, f"made up {number}", 5.2) > 0 for number in range(98))
    assert [pace.wait(1, f"d{number}", 5.2) for number in range(2, 40)] == [0] * 38  # within its share
    assert pace.wait(3, "d1", 5.2) == 0
    assert remembered(pace) <= 200
    assert [pace.wait(owner, "d1", 7.6) for owner in (1, 2)] == [0, 0]  # all are forgotten in time


def test_b4_accounts_share_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes first, and however many come."""
    monkeypatch.setattr(module, "MAX_DEVICES", 100)
    pace = RateLimiter(1)
    for account in range(1, 51):
        welcome = sum(pace.wait(account, f"d{number}", 5.0) == 0 for number in range(200))
        assert welcome >= 100 // account
        assert remembered(pace) <= 100 * (1 + sum(1 / each for each in range(1, account + 1)))


def test_zero_is_no_limit() -> None:
    pace = RateLimiter(0)
    assert not any(pace.wait(1, "d1", 1.0) for _ in range(5))


def test_what_is_left() -> None:
    one, ten = RateLimiter(1), RateLimiter(10)
    for pace in (one, ten):
        pace.wait(1, "d1", 100.0)
    assert [one.left(1, "d1", now) for now in (100.0, 100.4, 100.5, 101.5)] == [0, 0, 1, 1]
    left = ten.left(1, "d1", 100.0)
    assert left == sum(ten.wait(1, "d1", 100.0) == 0 for _ in range(10))
    assert ten.left(1, "d1", 100.0) == 0
    assert ten.left(1, "other", 100.0) == left + 1


def test_each_answer_to_a_device_says_what_is_left(
    limited: None, http: Connection, account: Account, outsider: Account
) -> None:
    def post(device_id: str, token: str, body: bytes = b"1") -> tuple[int, str | None, str | None]:
        reply = http.send("POST", V2, {"X-DEVICETOKEN": token, "X-DEVICEID": device_id}, body)
        return reply.status, reply.headers.get("ratelimit-policy"), reply.headers.get("ratelimit")

    said = '"device";q=1;w=1', '"device";r=0;t=1'
    account.device("d1")
    account.device("d2")
    assert post("d1", account.device_token) == (200, *said)
    assert post("d1", account.device_token) == (429, *said)
    assert post("d2", account.device_token, b"{") == (400, *said)
    assert post("new", account.device_token) == (201, *said)
    assert post("d1", outsider.device_token) == (201, *said)
    assert post("d1", "F" * 32) == (401, None, None)


def test_without_a_rate_nothing_is_said(http: Connection, account: Account) -> None:
    account.device("d1")
    headers: dict[str, str | bytes] = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1"}
    reply = http.send("POST", V2, headers, b"1")
    assert reply.status == 200
    assert not any("ratelimit" in name for name in reply.headers)


def test_a_device_that_posts_too_often_is_told_when_to_come_again(
    limited: None, http: Connection, account: Account, outsider: Account
) -> None:
    def post(account: Account, device_id: str) -> tuple[int, str]:
        headers: dict[str, str | bytes] = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": device_id}
        reply = http.send("POST", V2, headers, b"1")
        if reply.short[0] == 429:
            assert reply.headers["retry-after"] == "1"
        return reply.short

    for owner in (account, outsider):
        for device_id in ("d1", "d2"):
            owner.device(device_id)
    assert [post(account, "d1") for _ in range(3)] == [(200, "OK"), *[(429, "TOO_MANY_REQUESTS")] * 2]
    assert post(account, "d2") == post(outsider, "d1") == (200, "OK")
    assert len(account.stored()) == 2


def test_an_array_counts_as_one_request(limited: None, http: Connection, account: Account) -> None:
    account.device("d1")
    headers: dict[str, str | bytes] = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1"}
    array = b"[" + b",".join([b'{"value":1}'] * 100) + b"]"
    assert [http.send("POST", V2, headers, array).status for _ in range(2)] == [200, 429]
    assert len(account.stored()) == 100


# How often somebody may fail


@pytest.mark.parametrize("most", [1, 2, 7, 1000])
def test_so_many_failures_at_once_and_on_average(most: int) -> None:
    limiter = FailureLimiter(most, 60.0)
    failures = 0
    while not limiter.too_many("a", 1000.0):
        limiter.note("a", 1000.0)
        failures += 1
    assert failures == most
    assert not limiter.too_many("b", 1000.0)
    assert limiter.too_many("a", 1000.0 + 60 / most / 4)
    now, later = 1000.0, 0
    while now < 1600.0:  # whoever tries all the time
        now += 0.01
        if not limiter.too_many("a", now):
            limiter.note("a", now)
            later += 1
    assert later == pytest.approx(10 * most, rel=0.02, abs=1)


def test_failures_that_came_at_the_same_moment_are_forgotten_in_time() -> None:
    """Those whose answer was on its way when it became too many."""
    limiter = FailureLimiter(5, 60.0)
    for _ in range(1_000):
        limiter.note("a", 10.0)
    assert limiter.too_many("a", 10.0)
    assert not limiter.too_many("a", 25.0)
    assert not limiter.too_many("a", 100.0)


def test_who_fails_is_remembered_over_the_change_of_tables_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limiter = FailureLimiter(2, 60.0)
    limiter.note("first", 1.0)
    limiter.note("a", 59.0)
    limiter.note("a", 59.0)
    limiter.note("b", 62.0)
    assert limiter.too_many("a", 63.0)
    monkeypatch.setattr(module, "MAX_FAILING", 10)
    for number in range(100):
        limiter.note(f"made up {number}", 64.0)
    assert len(limiter._forgotten_at) + len(limiter._older) <= 20


def test_without_a_number_all_may_fail() -> None:
    limiter = FailureLimiter(0, 60.0)
    for _ in range(100):
        limiter.note("a", 1.0)
    assert not limiter.too_many("a", 1.0)
    assert not limiter._forgotten_at
