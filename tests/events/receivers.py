"""Real receivers of webhooks, well-behaved and others, on free ports of this machine."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

ANSWER_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Request(NamedTuple):
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    at: float  # time.monotonic()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Respond = Callable[[socket.socket, Request], None]


def answer(*answers: bytes) -> Respond:
    """One after the other; the last one from then on."""
    left = list(answers)

    def respond(connection: socket.socket, _request: Request) -> None:
        connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    return respond


def hang(connection: socket.socket, _request: Request) -> None:
    connection.settimeout(30)
    with contextlib.suppress(OSError):
        connection.recv(1)  # until the other side gives up


def drip(connection: socket.socket, _request: Request) -> None:
    """A header that never ends, two bytes a second."""
    with contextlib.suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(60):
            connection.sendall(b"z")
            time.sleep(0.5)


class Receiver:
    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.requests: list[Request] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError):
            data = b""
            while b"\r\n\r\n" not in data:
                more = connection.recv(65536)
                if not more:
                    return
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            while len(body) < int(headers.get("content-length", 0)):
                body += connection.recv(65536)
            request = Request(first.split(" ")[1], headers, body, time.monotonic())
            self.requests.append(request)
            self.respond(connection, request)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@contextlib.contextmanager
def receiver(respond: Respond | None = None) -> Iterator[Receiver]:
    made = Receiver(respond or answer(ANSWER_OK))
    try:
        yield made
    finally:
        made.close()
