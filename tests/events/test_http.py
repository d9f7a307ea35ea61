"""Webhooks to receivers of all kinds."""

import hashlib
import hmac
import resource
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_network

import pytest
from pytest_django import Settings
from receivers import Request, Respond, answer, drip, hang, receiver

from thingscale.events.transports import Outcome, Result, http, seconds_to_wait

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
