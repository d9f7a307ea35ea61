"""Refusals: which are recorded, and what their account sees of them (C12)."""

from collections.abc import Iterator

import pytest
from connecting import V2, Connection
from pytest_django import Settings
from stack import wait_until
from support import Account

from ingest import topics
from ingest.connectors import http_view
from ingest.record_limiter import MAX_ACCOUNTS, RecordLimiter
from thingscale.devices.models import RejectedMessage

TOKEN = "0123456789ABCDEF" * 2


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The view's are the process's."""
    monkeypatch.setattr(http_view, "TOO_FAST", RecordLimiter(30, 60.0))
    monkeypatch.setattr(http_view, "BAD_TOKENS", RecordLimiter(60, 60.0))


def test_each_sender_once_and_so_many_of_an_account() -> None:
    limiter = RecordLimiter(2, 60.0)
    seen = [limiter.should_record("a", sender, 1.0) for sender in ("d1", "d1", "d2", "d3", "d2")]
    assert seen == [True, False, True, False, False]
    assert limiter.should_record("b", "d1", 1.0)
    assert not limiter.should_record("a", "d1", 60.9)
    assert limiter.should_record("a", "d1", 61.0)


def test_what_is_remembered_is_bounded() -> None:
    limiter = RecordLimiter(1, 60.0)
    for account in range(2 * MAX_ACCOUNTS + 5):
        assert limiter.should_record(account, "d1", 0.0)
    assert len(limiter._windows) <= MAX_ACCOUNTS


@pytest.mark.parametrize(
    ("topic", "shown"),
    [
        ("home/kitchen/temp", "home/kitchen/temp"),
        (f"{TOKEN}/json/d1", "TOKEN/json/d1"),
        (f"{TOKEN.lower()}/json/d1", "TOKEN/json/d1"),
        (f"json/{TOKEN}/d1", "json/TOKEN/d1"),
        (TOKEN, "TOKEN"),
        (f"{TOKEN[:-1]}/json/d1", f"{TOKEN[:-1]}/json/d1"),
        ("", ""),
    ],
)
def test_c12_a_topic_is_shown_whole_but_for_its_tokens(topic: str, shown: str) -> None:
    assert topics.shown(topic) == shown


def post(http: Connection, token: str, device: str) -> int:
    headers: dict[str, str | bytes] = {"X-DEVICETOKEN": token, "X-DEVICEID": device}
    return http.send("POST", V2, headers, b"1").status


def recorded(account: Account) -> list[tuple[str, str, str]]:
    rows = RejectedMessage.objects.for_account(account.user).order_by("id")
    return list(rows.values_list("reason", "device_id", "source"))


@pytest.fixture
def once_a_second(settings: Settings) -> Iterator[None]:
    """For each device; before the connector starts."""
    settings.HTTP_RATE = 1
    http_view.rate_limiter.cache_clear()
    yield
    http_view.rate_limiter.cache_clear()


@pytest.mark.usefixtures("once_a_second")
def test_c12_a_device_that_sends_too_fast_is_listed_once_a_minute(
    http: Connection, account: Account, outsider: Account
) -> None:
    for device in ("d1", "d2"):
        account.device(device)
    answers = [post(http, account.device_token, device) for device in ("d1", "d2") for _ in range(40)]
    assert answers.count(429) > 40
    wait_until(lambda: len(recorded(account)) == 2, 60, "the records")
    expected = [("TOO_MANY_REQUESTS", device, "http json") for device in ("d1", "d2")]
    assert recorded(account) == expected
    assert recorded(outsider) == []


def test_c12_a_token_of_the_account_that_is_no_current_device_token_is_listed(
    http: Connection, account: Account, outsider: Account
) -> None:
    for _ in range(3):
        assert post(http, account.api_token, "d1") == 401
    assert post(http, TOKEN, "d2") == 401  # nobody's
    wait_until(lambda: recorded(account), 60, "the record")
    [(reason, device, source)] = recorded(account)
    assert (reason, device) == ("AUTH_REQUIRED", "d1")
    assert source.startswith("http json, with an API token")
    assert account.api_token not in source
    assert recorded(outsider) == []


def test_b4_tokens_that_somebody_makes_up_keep_no_account_off_its_list(
    http: Connection, account: Account, outsider: Account
) -> None:
    for number in range(70):
        assert post(http, f"{number:032X}", "d1") == 401
    for owner in (account, outsider):
        assert post(http, owner.api_token, "d2") == 401
    wait_until(lambda: recorded(account) and recorded(outsider), 60, "the records")
    for owner in (account, outsider):
        assert [device for _, device, _ in recorded(owner)] == ["d2"]
