"""What the agent makes of the HTTP connector's answers, and of those of who is in between."""

import asyncio
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from servwatch_agent.buffer import Batch
from servwatch_agent.config import Config
from servwatch_agent.connector import Refused, Unavailable
from servwatch_agent.http import Http

TOKEN = "0123456789ABCDEF" * 2
BATCH = Batch("http", 1, 2, 0, 0.0, b'[{"at":"2026-01-31T13:45:30Z","value":1}]')


class Answers(http.server.BaseHTTPRequestHandler):
    """The next one of the server's, each time."""

    server: "Serving"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.came.append((self.path, dict(self.headers), body))
        status, code, headers = self.server.answers.pop(0)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(code)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(code.encode())

    def log_message(self, format: str, *args: object) -> None: ...


class Serving(http.server.ThreadingHTTPServer):
    answers: list[tuple[int, str, dict[str, str]]]
    came: list[tuple[str, dict[str, str], bytes]]


@pytest.fixture
def serving() -> Iterator[Serving]:
    server = Serving(("127.0.0.1", 0), Answers)
    server.answers, server.came = [], []
    thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(60)


def send(port: int) -> None:
    config = Config("127.0.0.1", "U000001", TOKEN, "h", tls=False, http_port=port, buffer=Path("unused"))

    async def scenario() -> None:
        await Http(config).send(BATCH)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "code", "headers"),
    [(200, "OK", {}), (201, "NEW_DEVICE_FOUND", {"X-Held": "1"}), (403, "NO_MAPPED_CH", {"X-Held": "1"})],
)
def test_stored_or_held(serving: Serving, status: int, code: str, headers: dict[str, str]) -> None:
    serving.answers.append((status, code, headers))
    send(serving.server_port)


def test_the_same_bytes_have_the_same_key(serving: Serving) -> None:
    serving.answers += [(200, "OK", {})] * 2
    send(serving.server_port)
    send(serving.server_port)
    (path, headers, body), again = serving.came
    assert (path, body) == ("/post_v2/", BATCH.body)
    assert (headers["X-DEVICETOKEN"], headers["X-DEVICEID"]) == (TOKEN, "h")
    assert headers["Idempotency-Key"] == again[1]["Idempotency-Key"]


@pytest.mark.parametrize(
    ("status", "code", "headers", "retry_after", "not_stored"),
    [
        (429, "TOO_MANY_REQUESTS", {"Retry-After": "7"}, 7, True),
        (429, "TOO_MANY_REQUESTS", {"Retry-After": "99999"}, 600, True),
        (503, "TRY_AGAIN", {"Retry-After": "soon"}, 0, True),
        (503, "TRY_AGAIN", {"Retry-After": "nan"}, 0, True),
        (500, "SERVER_ERROR", {}, 0, False),
        (502, "<html>Bad Gateway</html>", {}, 0, False),
        (408, "REQUEST_TIMEOUT", {}, 0, False),
        (401, "AUTH_REQUIRED", {}, 60, True),
        (403, "QUOTA_EXCEEDED", {}, 60, True),
        (302, "", {"Location": "http://127.0.0.1:1/"}, 0, False),
        (200, "<html>Please sign in to this WLAN</html>", {}, 0, False),
        (404, "no such page", {}, 0, False),
    ],
)
def test_to_be_sent_again(
    serving: Serving, status: int, code: str, headers: dict[str, str], retry_after: float, not_stored: bool
) -> None:
    serving.answers.append((status, code, headers))
    with pytest.raises(Unavailable) as raised:
        send(serving.server_port)
    assert (raised.value.retry_after, raised.value.not_stored) == (retry_after, not_stored)
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "code"), [(400, "BAD_JSON_FORMAT"), (403, "DEVICE_DISABLED"), (413, "TOO_LARGE")]
)
def test_never_to_be_sent_again(serving: Serving, status: int, code: str) -> None:
    serving.answers.append((status, code, {}))
    with pytest.raises(Refused, match=code):
        send(serving.server_port)


def test_nobody_there(serving: Serving) -> None:
    with pytest.raises(Unavailable, match="Connection refused") as raised:
        send(1)
    assert raised.value.not_stored
