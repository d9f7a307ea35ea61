"""What a socket does in the moments that a real browser seldom brings about."""

import asyncio
import json
from typing import Any

import pytest
from channels import consumer
from channels.exceptions import StopConsumer
from redis.exceptions import ConnectionError

from thingscale.live import consumers
from thingscale.live.consumers import TRY_LATER, LiveConsumer
from thingscale.live.routing import from_own_page

Sent = list[dict[str, Any]]


def make(sent: Sent, seconds: float = 0) -> LiveConsumer:
    """Its browser takes a message in `seconds`."""

    async def send(message: dict[str, Any]) -> None:
        await asyncio.sleep(seconds)
        sent.append(message)

    consumer = LiveConsumer()
    consumer.base_send = send
    return consumer


def test_a_slow_browser_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "SEND_SECONDS", 0.01)
    with pytest.raises(StopConsumer):
        asyncio.run(make([], seconds=10)._send({"type": "ready"}))


def test_nothing_is_sent_after_the_end() -> None:
    sent: Sent = []

    async def end_twice() -> None:
        page = make(sent)
        await page._postpone(ConnectionError())
        await page._end(4401)
        await page._send({"type": "ready"})

    asyncio.run(end_twice())
    assert sent == [{"type": "websocket.close", "code": TRY_LATER}]


@pytest.mark.parametrize(
    "error",
    [ConnectionError(), RuntimeError("called while another coroutine is already waiting")],
)
def test_a_page_that_is_opened_while_valkey_comes_back_is_asked_to_try_later(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Layer:
        async def new_channel(self) -> str:
            raise error

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    monkeypatch.setattr(consumer, "get_channel_layer", lambda alias: Layer())
    sent: Sent = []
    page = make(sent)
    asyncio.run(page({"type": "websocket", "path": "/ws/live/"}, receive, page.base_send))
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert sent[-1]["code"] == TRY_LATER


@pytest.mark.parametrize(("named_by_key", "named"), [([7, 8, 9], [0, 1]), (None, None)])
def test_channels_are_named_by_number(named_by_key: list[int] | None, named: list[int] | None) -> None:
    """A deleted one not at all."""
    sent: Sent = []
    update = {"channels": named_by_key, "messages": [{"channel": 9}, {"channel": None}, {"channel": 7}]}
    consumer = make(sent)
    consumer._numbers = {7: 0, 8: 1}

    async def load(channels: set[int]) -> None:
        assert channels == {7, 9, *(named_by_key or ())}

    consumer._load_numbers = load  # type: ignore[method-assign]
    asyncio.run(consumer.live_update({"update": update}))
    told = json.loads(sent[0]["text"])
    assert told["channels"] == named
    assert [line["channel"] for line in told["messages"]] == [None, None, 0]


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        (b"https://iot.example", b"iot.example", True),
        (b"https://IoT.example:8443", b"iot.example:8443", True),
        (b"http://[::1]:8000", b"[::1]:8000", True),
        (b"https://iot.example.evil.example", b"iot.example", False),
        (b"https://iot.example@evil.example", b"iot.example", False),
        (b"https://evil.example/iot.example", b"iot.example", False),
        (b"https://iot.example:8443", b"iot.example", False),
        (b"file://iot.example", b"iot.example", False),
        (b"https://[", b"iot.example", False),
        (b"null", b"iot.example", False),
        (b"", b"", False),
    ],
)
def test_only_own_pages_may_open_a_socket(origin: bytes, host: bytes, own: bool) -> None:
    assert from_own_page({b"origin": origin, b"host": host}) is own
