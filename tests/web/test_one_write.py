"""What an answer consists of is sent in one piece, in order, and before the connection is closed."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from stack import Stack
from support import Account

from thingscale.one_write import Joined


class Transport:
    def __init__(self) -> None:
        self.done: list[Any] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def write_eof(self) -> None:
        self.done.append("eof")

    def close(self) -> None:
        self.done.append("closed")
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing


def run(main: Callable[[Joined, Transport], Coroutine[Any, Any, None]]) -> list[Any]:
    """What was done with the transport."""

    async def in_loop() -> list[Any]:
        transport = Transport()
        await main(Joined(cast(asyncio.Transport, transport)), transport)
        await asyncio.sleep(0)
        return transport.done

    return asyncio.run(in_loop())


def test_what_is_written_at_once_goes_out_in_one_piece() -> None:
    async def main(joined: Joined, transport: Transport) -> None:
        joined.write(b"head,")
        joined.writelines([b"body", b"."])
        assert transport.done == []
        await asyncio.sleep(0)
        joined.write(b"more")

    assert run(main) == [b"head,body.", b"more"]


def test_it_goes_out_before_the_end() -> None:
    async def main(joined: Joined, transport: Transport) -> None:
        joined.write(b"a")
        joined.write_eof()
        joined.write(b"b")
        joined.close()

    assert run(main) == [b"a", "eof", b"b", "closed"]


def test_a_lost_connection_is_not_written_to() -> None:
    async def main(joined: Joined, transport: Transport) -> None:
        joined.write(b"a")
        transport.closing = True

    assert run(main) == []


@pytest.mark.e2e
def test_an_answer_comes_in_one_packet(stack: Callable[..., Stack], account: Account) -> None:
    request = b"POST /post_v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1"
    with socket.create_connection(("127.0.0.1", stack("web").http), 10) as client:
        for _ in range(3):
            client.sendall(request)
            answer = client.recv(10_000)
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert answer.endswith(b"\r\n\r\nAUTH_REQUIRED")
