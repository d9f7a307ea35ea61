"""Webhooks to receivers of all kinds."""

import contextlib
import hashlib
import hmac
import os
import resource
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings
from receivers import Request, Respond, answer, drip, hang, receiver

from thingscale.events.guard import NOT_REACHED
from thingscale.events.transports import Outcome, Result, http, limited_requests, seconds_to_wait

BODY = b'{"event_id": 1, "current": 13}'


@pytest.fixture(autouse=True)
def _here(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.NOTIFY_NETWORKS = (ip_network("127.0.0.0/8"),)
    monkeypatch.setattr(http, "SECONDS", 2.0)


def outcome_of(respond: Respond) -> Outcome:
    with receiver(respond) as there:
        return http.send(there.url, BODY, "secret", "7f")


def test_the_body_is_signed() -> None:
    with receiver() as there:
        assert http.send(there.url, BODY, "secret", "7f") == (Result.SENT, "200 ok", None)
    (request,) = there.requests
    assert request.body == BODY
    assert request.path == "/hook"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-delivery-id"] == "7f"
    assert request.headers["user-agent"].startswith("ThingScale/")
    kind, _, given = request.headers["x-signature"].partition("=")
    assert kind == "sha256"
    assert hmac.compare_digest(given, hmac.new(b"secret", request.body, hashlib.sha256).hexdigest())


@pytest.mark.parametrize(
    ("status", "result"),
    [
        *((200, Result.SENT), (202, Result.SENT), (204, Result.SENT)),
        *((301, Result.FAILED), (302, Result.FAILED), (307, Result.FAILED), (304, Result.FAILED)),
        *((400, Result.FAILED), (401, Result.FAILED), (404, Result.FAILED), (410, Result.FAILED)),
        *(
            (408, Result.RETRY),
            (429, Result.RETRY),
            (500, Result.RETRY),
            (502, Result.RETRY),
            (503, Result.RETRY),
        ),
    ],
)
def test_what_an_answer_means(status: int, result: Result) -> None:
    line = f"HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    outcome = outcome_of(answer(line.encode()))
    assert outcome.result is result
    assert outcome.answer.startswith(str(status))


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a certificate for a name, with its key in the same file. The first one is trusted."""

    def make(name: str) -> Path:
        made = tmp_path / f"{len(list(tmp_path.iterdir()))}.pem"
        command = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x"
        )
        files = ["-keyout", str(made), "-out", f"{made}.crt", "-addext", f"subjectAltName={name}"]
        subprocess.run([*command.split(), *files], check=True, capture_output=True)
        made.write_text(made.read_text() + Path(f"{made}.crt").read_text())
        return made

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(make("IP:127.0.0.1")))
    limited_requests.tls_context.cache_clear()
    monkeypatch.setattr(limited_requests, "of_thread", limited_requests._OfThread())
    return make


@contextlib.contextmanager
def by_tls(certificate: Path) -> Iterator[str]:
    """A receiver's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_certificates_are_verified(certificates: Callable[[str], Path]) -> None:
    trusted = Path(os.environ["REQUESTS_CA_BUNDLE"])
    with by_tls(trusted) as url:
        assert http.send(url, BODY, "secret", "7f").result is Result.SENT
        assert "TLS failed" in http.send(url.replace("127.0.0.1", "localhost"), BODY, "secret", "7f").answer
    with by_tls(certificates("IP:127.0.0.1")) as url:
        assert "TLS failed" in http.send(url, BODY, "secret", "7f").answer


def test_certificates_are_not_read_for_each_connection(
    certificates: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer than all the rest."""
    trusted = Path(os.environ["REQUESTS_CA_BUNDLE"])
    load = ssl.SSLContext.load_verify_locations
    reads: list[object] = []

    def count(context: ssl.SSLContext, *arguments: Any, **options: Any) -> None:
        reads.append(context)
        load(context, *arguments, **options)

    with by_tls(trusted) as url:
        monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", count)
        for _ in range(3):
            assert http.send(url, BODY, "secret", "7f").result is Result.SENT
    assert reads == []


def test_nothing_of_one_notification_is_in_the_next(settings: Settings) -> None:
    """No cookie, and no connection that the guard has not seen."""

    def respond(connection: socket.socket, request: Request) -> None:
        head = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nConnection: keep-alive\r\n"
        connection.sendall(head + b"Content-Length: 2\r\n\r\nok")
        hang(connection, request)

    with receiver(respond) as there:
        for _ in range(2):
            assert http.send(there.url, BODY, "secret", "7f").result is Result.SENT
        settings.NOTIFY_NETWORKS = ()
        assert http.send(there.url, BODY, "secret", "7f").answer == NOT_REACHED
        assert len(there.requests) == 2
        assert not any("cookie" in request.headers for request in there.requests)


def test_retry_after_is_honoured() -> None:
    busy = b"HTTP/1.1 429 Too Many\r\nRetry-After: 30\r\nContent-Length: 4\r\n\r\nbusy"
    assert outcome_of(answer(busy)) == (Result.RETRY, "429 busy", 30.0)


def test_retry_after_in_each_form() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < (seconds_to_wait(soon) or 0) <= 90
    assert seconds_to_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert seconds_to_wait("99999999999999") == 6 * 3600
    assert seconds_to_wait("soon") is None
    assert seconds_to_wait("-5") is None
    assert seconds_to_wait(None) is None


@pytest.mark.parametrize("respond", [hang, drip], ids=["hang", "drip"])
def test_a_slow_receiver_is_left_at_the_limit(respond: Respond) -> None:
    began = time.monotonic()
    outcome = outcome_of(respond)
    assert outcome == (Result.RETRY, "There was no answer in time.", None)
    assert 1.5 < time.monotonic() - began < 4


def slow_text(connection: socket.socket, _request: Request) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nf")
    hang(connection, _request)


def test_its_status_is_enough() -> None:
    began = time.monotonic()
    assert outcome_of(slow_text).result is Result.SENT
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("status", [200, 301, 500])
def test_of_a_gigabyte_little_is_read(status: int) -> None:
    def endless(connection: socket.socket, _request: Request) -> None:
        head = f"HTTP/1.1 {status} X\r\nLocation: /x\r\nContent-Length: {2**30}\r\n\r\n"
        connection.sendall(head.encode())
        for _ in range(1024):
            connection.sendall(b"x" * 2**20)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    outcome = outcome_of(endless)
    assert outcome.answer.startswith(str(status))
    assert len(outcome.answer) <= 300
    assert time.monotonic() - began < 1.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_no_connection_is_tried_again() -> None:
    with receiver() as there:
        pass
    outcome = http.send(there.url, BODY, "secret", "7f")
    assert outcome.result is Result.RETRY
    assert "no connection" in outcome.answer
    assert "no connection" in http.send("https://nowhere.invalid/", BODY, "secret", "7f").answer


def test_what_is_no_tls_and_what_is_no_http() -> None:
    with receiver(answer(b"220 smtp.example.com ESMTP\r\n")) as there:
        assert http.send(there.url, BODY, "s", "7f").result is Result.RETRY
        assert http.send(there.url.replace("http:", "https:"), BODY, "s", "7f").result is Result.RETRY


def test_an_address_that_was_stored_and_is_none() -> None:
    for url in ("", "nonsense", "ftp://example.com/", "http://", "http://[::1", "http://*.example.com:x/"):
        assert http.send(url, BODY, "secret", "7f").result is Result.FAILED


def test_what_a_column_can_not_keep() -> None:
    outcome = outcome_of(answer(b"HTTP/1.1 400 X\r\nContent-Length: 9\r\n\r\na\x00b\r\n\xff\xedc!"))
    assert outcome.answer.startswith("400 a b")
    assert "\x00" not in outcome.answer
