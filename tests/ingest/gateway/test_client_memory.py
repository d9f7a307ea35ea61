"""B6: a client that has gone holds nothing, and does not wait for the cyclic collector to let go."""

import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ingest.device_tokens import Denied
from ingest.gateway.client import Client
from ingest.gateway.publishes import MAX_REMEMBERED, ClientSubmission, Publishes
from ingest.message import STORED


class Gateway:
    """As far as a client needs one that ends."""

    draining = False
    device_tokens = SimpleNamespace(cached=lambda token: Denied.TOKEN)
    hub = SimpleNamespace(account=lambda user, user_id: None)

    def now(self) -> float:
        return 0.0

    def disconnected(self, client: object, will: object) -> None: ...


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def new_client() -> Client:
    nothing = lambda *_: None  # noqa: E731
    connection = SimpleNamespace(write=nothing, close=nothing, pause=nothing, resume=nothing)
    gateway: Any = Gateway()
    return Client(gateway, connection)  # type: ignore[arg-type]


def test_b6_a_client_that_has_ended_is_gone_at_once(without_collector: None) -> None:
    client = new_client()
    client.receive(b"\x10")  # the beginning of a CONNECT
    seen = weakref.ref(client)
    client.end(with_will=False)
    del client
    assert seen() is None


def test_b6_what_is_on_its_way_holds_no_client(without_collector: None) -> None:
    client = new_client()
    publishes = client.start_publishing()
    seen = weakref.ref(client)
    client.end(with_will=False)
    del client
    assert seen() is None
    publishes.committed(ClientSubmission(publishes, [], []), [STORED][:0])


def test_b6_long_topics_are_not_remembered() -> None:
    publishes = Publishes(new_client())
    for length in (MAX_REMEMBERED, MAX_REMEMBERED + 1, 60_000):
        publishes._resolve("t" * length)
    assert list(map(len, publishes._owners)) == [MAX_REMEMBERED]
