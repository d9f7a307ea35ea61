"""The HTTP connector through each of its two adapters: the raw ASGI callable and the Django view."""

import asyncio
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from django.db import connections
from django.test import Client

from ingest.connectors import http_view
from ingest.connectors.http_asgi import HttpConnector
from ingest.service import Ingest

V1, V2, OLDEST = "/post_v1/", "/post_v2/", "/post/"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]  # by lower-case name
    body: bytes

    @property
    def short(self) -> tuple[int, str]:
        return self.status, self.body.decode()


class Connection(Protocol):
    @property
    def ingest(self) -> Ingest: ...

    def send(self, method: str, path: str, headers: dict[str, str | bytes], body: bytes) -> Reply: ...

    def leave_in_mid_request(self, path: str, headers: dict[str, str | bytes], body: bytes) -> None:
        """The client announces ten bytes more than it sends."""


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _part(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


class Raw:
    """Calls the ASGI application by hand, on a loop of its own."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._connector = HttpConnector()

    @property
    def ingest(self) -> Ingest:
        return self._connector.ingest

    def send(self, method: str, path: str, headers: dict[str, str | bytes], body: bytes) -> Reply:
        half = len(body) // 2
        start, end = self._call(method, path, headers, [_part(body[:half], True), _part(body[half:], False)])
        found = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        return Reply(start["status"], found, end["body"])

    def leave_in_mid_request(self, path: str, headers: dict[str, str | bytes], body: bytes) -> None:
        events = [_part(body, True), {"type": "http.disconnect"}]
        assert self._call("POST", path, headers, events) == []

    def _call(
        self, method: str, path: str, headers: dict[str, str | bytes], events: list[dict[str, Any]]
    ) -> list[Any]:
        encoded = [(name.lower().encode(), _bytes(value)) for name, value in headers.items()]
        length = sum(len(event.get("body", b"")) for event in events)
        encoded.append((b"content-length", str(length).encode()))
        scope = {"type": "http", "method": method, "path": path, "headers": encoded}
        sent: list[Any] = []
        coming = iter(events)

        async def receive() -> dict[str, Any]:
            return next(coming)

        async def send(event: Any) -> None:
            sent.append(event)

        self._runner.run(self._connector(scope, receive, send))
        return sent

    async def start(self) -> None:
        self._connector.start()

    async def stop(self) -> None:
        lookups, together = self._connector.lookups, threading.Barrier(2)
        for closing in [lookups.submit(_close_connections, together) for _ in range(2)]:
            closing.result(60)
        await self._connector.stop()


def _close_connections(together: threading.Barrier) -> None:
    """Those that Django keeps for this thread; the others have to be at it as well."""
    together.wait(60)
    connections.close_all()


class View:
    """Django's test client, and WSGI where the test client is too well-behaved."""

    @property
    def ingest(self) -> Ingest:
        return http_view.ingest()

    def send(self, method: str, path: str, headers: dict[str, str | bytes], body: bytes) -> Reply:
        given = {name: _bytes(value).decode("latin-1") for name, value in headers.items()}
        content_type = given.pop("Content-Type", "")
        response: Any = Client().generic(
            method, path, body, content_type, headers=given, CONTENT_LENGTH=str(len(body))
        )
        return Reply(response.status_code, {n.lower(): v for n, v in response.items()}, response.content)

    def leave_in_mid_request(self, path: str, headers: dict[str, str | bytes], body: bytes) -> None:
        from thingscale.wsgi import application  # loads the middleware

        named = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "SERVER_NAME": "test",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "CONTENT_LENGTH": str(len(body) + 10),
        }
        response = application(environ | named, lambda status, headers, exc_info=None: lambda data: None)
        response.close()


@contextmanager
def raw() -> Iterator[Raw]:
    with asyncio.Runner() as runner:
        adapter = Raw(runner)
        runner.run(adapter.start())
        yield adapter
        runner.run(adapter.stop())


@contextmanager
def view() -> Iterator[View]:
    yield View()
    http_view.service().stop()
