"""Requests as bytes on a socket, and answers read from it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SECONDS = 60  # generous: the machine may be busy


TIMER, INODE = 5, 9  # fields of a line of /proc/net/tcp


class Answer(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]  # as they came
    body: bytes

    def header(self, name: str) -> bytes | None:
        """With that very spelling."""
        return dict(self.headers).get(name.encode())


class Client:
    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.rest = b""

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.socket.sendall(part)

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def answer(self, bodyless: bool = False) -> Answer:
        """The next one. Raises EOFError if there is none."""
        while b"\r\n\r\n" not in self.rest:
            self._more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
        found = {name.lower(): value for name, value in headers}
        status = int(first.split(b" ")[1])
        body = b"" if bodyless or status in {204, 304} else self._body(found)
        return Answer(status, headers, body)

    def _body(self, headers: dict[bytes, bytes]) -> bytes:
        if b"content-length" in headers:
            return self._take(int(headers[b"content-length"]))
        if b"transfer-encoding" in headers:
            parts = []
            while size := int(self._line(), 16):
                parts.append(self._take(size))
                assert self._line() == b""
            assert self._line() == b""
            return b"".join(parts)
        return self.until_closed()

    def _line(self) -> bytes:
        while b"\r\n" not in self.rest:
            self._more()
        line, _, self.rest = self.rest.partition(b"\r\n")
        return line

    def _take(self, size: int) -> bytes:
        while len(self.rest) < size:
            self._more()
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def until_closed(self) -> bytes:
        """What still comes. An end by force counts, too."""
        try:
            while True:
                self._more()
        except (EOFError, ConnectionResetError):
            pass
        taken, self.rest = self.rest, b""
        return taken

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(self.rest)
        self.rest += data


@contextmanager
def connected(port: int, source: str = "127.0.0.1") -> Iterator[Client]:
    with socket.create_connection(("127.0.0.1", port), SECONDS, source_address=(source, 0)) as connection:
        yield Client(connection)


def request(
    method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def ask(port: int, data: bytes) -> Answer:
    with connected(port) as client:
        client.send(data)
        return client.answer()


def connection_line(server: int, client: int) -> list[str]:
    """How Linux describes the server's end of a connection, by the two ports. Raises LookupError."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if [int(address.split(":")[1], 16) for address in fields[1:3]] == [server, client]:
            return fields
    raise LookupError
