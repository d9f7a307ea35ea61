"""A WebSocket client that closes first gets a Close in return (RFC 6455 5.5.1), at each of our doors."""

from collections.abc import Callable

import pytest
from listening import open_socket, sign_in
from stack import Stack
from support import Account
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

pytestmark = pytest.mark.e2e


def connect_packet(account: Account) -> bytes:
    texts = (b"closes-first", account.user_id.encode(), account.device_token.encode())
    body = b"\x00\x04MQTT\x04\xc2\x00\x3c" + b"".join(len(text).to_bytes(2, "big") + text for text in texts)
    return bytes([0x10, len(body)]) + body


def closed_first(socket: ClientConnection, code: int) -> int | None:
    """What the server's Close says; None: there was none."""
    socket.close(code)
    received = socket.protocol.close_rcvd
    return received.code if received else None


@pytest.mark.parametrize("code", [1000, 1001, 4000])
@pytest.mark.parametrize("after", ["nothing", "a packet", "a ping"])
def test_h18_mqtt_answers_a_close(
    stack: Callable[..., Stack], account: Account, code: int, after: str
) -> None:
    url = f"ws://127.0.0.1:{stack().ws}/mqtt"
    with connect(url, subprotocols=[Subprotocol("mqtt")]) as socket:
        if after == "a packet":
            socket.send(connect_packet(account))
            assert socket.recv(20) == b"\x20\x02\x00\x00"
        elif after == "a ping":
            assert socket.ping().wait(60)
        assert closed_first(socket, code) == code


@pytest.mark.parametrize("code", [1000, 1001, 4000])
@pytest.mark.parametrize("sent", [0, 3])
def test_h18_live_answers_a_close(
    stack: Callable[..., Stack], account: Account, code: int, sent: int
) -> None:
    with open_socket(stack("web"), sign_in(account)) as socket:
        for _ in range(sent):
            socket.send("nobody expects this")
        assert closed_first(socket, code) == code
