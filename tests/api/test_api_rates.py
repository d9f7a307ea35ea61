"""Rate limits: how many, what the answers say, and Valkey away."""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from api_calls import Caller, refusal
from django.core.cache import caches
from pytest_django import Settings

from api import throttling
from thingscale.accounts.actions import create_account
from thingscale.accounts.models import User
from thingscale.web.circuit_breaker import CircuitBreaker

Found = TypeVar("Found")
pytestmark = pytest.mark.slow
POLICY = '"rest";q=20;w=1'


@pytest.fixture(autouse=True)
def circuit(monkeypatch: pytest.MonkeyPatch) -> CircuitBreaker:
    fresh = CircuitBreaker("Requests are not limited")
    monkeypatch.setattr(throttling, "circuit", fresh)
    return fresh


@pytest.fixture
def limited(owner: User) -> User:
    User.objects.filter(pk=owner.pk).update(rest_rate=20)
    return owner


def statuses(api: Caller, count: int) -> list[int]:
    return [api.get("user").status_code for _ in range(count)]


def in_one_window(ask: Callable[[], Found]) -> Found:
    """What was asked in less than a second, so that it is in one window."""
    while True:
        begin = time.monotonic()
        found = ask()
        if time.monotonic() < begin + 1:
            return found
        time.sleep(1)


def test_25_in_a_second(limited: User, api: Caller, outsider: Caller) -> None:
    time.sleep(0.5)  # over the end of a clock's second in half of the cases: it makes no difference
    assert in_one_window(lambda: statuses(api, 25)) == [200] * 20 + [429] * 5
    assert outsider.get("user").status_code == 200


def test_requests_at_the_same_moment_are_all_counted(owner: User) -> None:
    with ThreadPoolExecutor(5) as pool:
        counts = sorted(pool.map(lambda _: caches["ratelimit"].incr(f"at-once-{owner.pk}"), range(25)))
    assert counts == list(range(1, 26))


def test_retry_after_is_true(limited: User, api: Caller) -> None:
    assert in_one_window(lambda: statuses(api, 21))[-1] == 429
    response = api.get("user")
    assert refusal(response) == (429, "TOO_MANY_REQUESTS")
    assert response["Retry-After"] == "1"
    time.sleep(int(response["Retry-After"]))
    assert api.get("user").status_code == 200


def test_a_counter_that_nobody_uses_is_gone(limited: User, api: Caller) -> None:
    cache = caches["ratelimit"]
    name = f"gone-{limited.pk}"
    assert [cache.incr(name) for _ in range(2)] == [1, 2]
    client = cache._cache.get_client(write=True)  # type: ignore[attr-defined]
    assert 0 < client.pttl(cache.make_key(name)) <= 1000


def test_what_is_left_is_on_every_answer(limited: User, api: Caller) -> None:
    calls = [("GET", "user"), ("GET", "device/none"), ("PATCH", "user"), ("GET", "nothing"), ("POST", "user")]
    answers = in_one_window(lambda: [api(method, path) for method, path in calls])
    assert [answer.status_code for answer in answers] == [200, 404, 405, 404, 405]
    assert {answer["RateLimit-Policy"] for answer in answers} == {POLICY}
    assert [answer["RateLimit"] for answer in answers] == [
        f'"rest";r={left};t=1' for left in range(19, 14, -1)
    ]


def test_a_refusal_says_it_too(limited: User, api: Caller) -> None:
    response = in_one_window(lambda: [api.get("channel") for _ in range(23)])[-1]
    assert response.status_code == 429
    assert (response["RateLimit-Policy"], response["RateLimit"]) == (POLICY, '"rest";r=0;t=1')


def test_v1_counts_too(limited: User, api: Caller) -> None:
    v1 = Caller(limited, version="v1")
    answers = in_one_window(lambda: [caller.get("channel") for caller in (v1, api)])
    assert [answer["RateLimit"] for answer in answers] == ['"rest";r=19;t=1', '"rest";r=18;t=1']


def test_a_wrong_token_counts_for_nobody(limited: User) -> None:
    response = Caller(None, "F" * 32).get("user")
    assert response.status_code == 401
    assert "RateLimit" not in response


def test_an_account_has_its_own_limit(limited: User, api: Caller) -> None:
    User.objects.filter(pk=limited.pk).update(rest_rate=3)
    assert in_one_window(lambda: statuses(api, 5)) == [200] * 3 + [429] * 2


def test_new_accounts_get_the_limit_of_the_settings(db: None, settings: Settings) -> None:
    settings.REST_RATE = 3
    assert create_account("servwatch@example.com", "correct horse battery").rest_rate == 3


@pytest.fixture
def hanging_server(tmp_path: Path) -> Iterator[socket.socket]:
    """Takes connections and never says a word."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "hanging.sock"))
        server.listen(50)
        server.setblocking(False)
        yield server


def use_valkey(settings: Settings, url: str) -> None:
    settings.CACHES = {
        name: cache | {"LOCATION": [url]} if name == "ratelimit" else cache
        for name, cache in settings.CACHES.items()
    }


def test_valkey_away_lets_through_and_says_so_once(
    limited: User, api: Caller, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    use_valkey(settings, "unix:///nonexistent/valkey.sock")
    assert statuses(api, 30) == [200] * 30
    response = api.get("user")
    assert (response["RateLimit-Policy"], response["RateLimit"]) == (POLICY, '"rest";r=20;t=1')
    assert caplog.text.count("while Valkey is away") == 1


def test_valkey_hanging_costs_a_quarter_of_a_second_once(
    limited: User,
    api: Caller,
    settings: Settings,
    hanging_server: socket.socket,
    circuit: CircuitBreaker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is asked once, and then nobody asks for a while."""
    monkeypatch.setattr(circuit, "PAUSE", 600)
    use_valkey(settings, f"unix://{hanging_server.getsockname()}")
    assert statuses(api, 30) == [200] * 30
    hanging_server.accept()[0].close()
    with pytest.raises(BlockingIOError):
        hanging_server.accept()


def test_valkey_comes_back(
    limited: User,
    api: Caller,
    settings: Settings,
    circuit: CircuitBreaker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = settings.CACHES
    monkeypatch.setattr(circuit, "PAUSE", 0.2)
    use_valkey(settings, "unix:///nonexistent/valkey.sock")
    assert statuses(api, 2) == [200, 200]
    settings.CACHES = before
    assert api.get("user")["RateLimit"] == '"rest";r=20;t=1'  # nobody asks yet
    time.sleep(0.2)
    assert api.get("user")["RateLimit"] == '"rest";r=19;t=1'


def test_only_one_tries_whether_it_is_back(circuit: CircuitBreaker) -> None:
    def fail() -> int:
        raise ConnectionError

    assert circuit.ask(fail) is None
    circuit._open_until = 0
    assert circuit.ask(lambda: circuit.ask(lambda: 1) or 2) == 2  # meanwhile another one goes on without
    assert [circuit.ask(lambda: 3), circuit.ask(lambda: 4)] == [3, 4]
