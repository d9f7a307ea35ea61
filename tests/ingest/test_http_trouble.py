"""The HTTP connector with the store away, a full queue, and clients that leave: no 200 without a COMMIT."""

import threading
import time

import pytest
from connecting import V1, V2, Connection, Reply
from django.db import connection
from feeding import another_transaction, ask, database_away, elsewhere, message, values
from pytest_django import Settings
from stack import wait_until
from support import Account

from thingscale.devices.models import Device, RejectedMessage

LOCK = "SELECT FROM streams_latest FOR UPDATE"


@pytest.fixture
def known(http: Connection, account: Account) -> Account:
    """With a device that is stored once, so that all caches know it."""
    account.device("d1")
    assert post(http, account, b"0").short == (200, "OK")
    return account


def post(http: Connection, account: Account, body: bytes, token: str = "", accept: str = "") -> Reply:
    headers: dict[str, str | bytes] = {
        "X-DEVICETOKEN": token or account.device_token,
        "X-DEVICEID": "d1",
        "Accept": accept,
    }
    return http.send("POST", V2, headers, body)


def waiting() -> bool:
    return bool(ask("SELECT count(*) FROM pg_locks WHERE NOT granted"))


def assert_try_again(reply: Reply) -> None:
    assert reply.short == (503, "TRY_AGAIN")
    assert int(reply.headers["retry-after"]) >= 1


def test_with_the_store_away_it_says_try_again_and_means_it(
    http: Connection, known: Account, settings: Settings
) -> None:
    settings.HTTP_STORE_SECONDS = 0.3
    with database_away():
        began = time.monotonic()
        assert_try_again(post(http, known, b"1"))
        assert time.monotonic() - began < 15
    settings.HTTP_STORE_SECONDS = 10
    assert post(http, known, b"2").short == (200, "OK")
    assert values(known) == ["0", "2"]


def test_it_answers_as_soon_as_the_store_is_back(
    http: Connection, known: Account, settings: Settings
) -> None:
    settings.HTTP_STORE_SECONDS = 15
    replies: list[Reply] = []

    def send() -> None:
        replies.append(post(http, known, b"1"))
        connection.close()

    sender = threading.Thread(target=send)
    with another_transaction(LOCK):
        sender.start()
        wait_until(waiting, what="the writer to wait")
        assert not replies
    sender.join(60)
    assert [reply.short for reply in replies] == [(200, "OK")]
    assert values(known) == ["0", "1"]


def test_nobody_is_refused_for_a_token_that_can_not_be_checked(
    http: Connection, known: Account, settings: Settings
) -> None:
    settings.HTTP_STORE_SECONDS = 0.5
    own = connection.connection.info.backend_pid
    with database_away():
        with elsewhere() as other:
            other.execute("SELECT pg_terminate_backend(%s)", [own])
        assert_try_again(post(http, known, b"1", token="0" * 32))
        assert_try_again(post(http, known, b"1"))
        connection.close()
    assert values(known) == ["0"]


def test_with_a_full_queue_it_says_try_again_at_once(http: Connection, known: Account) -> None:
    writer = http.ingest.writer
    writer.limits = writer.limits._replace(messages=1)
    with another_transaction(LOCK):
        writer.accept([message(known, "1")], lambda outcomes: None)
        reply = post(http, known, b"2")
        assert_try_again(reply)
        assert post(http, known, b"2", accept="application/json").body == b'{"error":"TRY_AGAIN"}'
        assert writer.full
    wait_until(lambda: not writer.full, what="the first to be stored")
    assert post(http, known, b"3").short == (200, "OK")
    assert values(known) == ["0", "1", "3"]


def test_what_was_cancelled_too_late_is_stored_once(
    http: Connection, known: Account, settings: Settings
) -> None:
    """503 says that it may not be stored; it was in a transaction already."""
    settings.HTTP_STORE_SECONDS = 0.2
    with another_transaction(LOCK):
        assert_try_again(post(http, known, b"1"))
        assert waiting()
    wait_until(lambda: values(known) == ["0", "1"], what="the transaction to end")
    settings.HTTP_STORE_SECONDS = 10
    assert post(http, known, b"2").short == (200, "OK")


@pytest.mark.parametrize(("path", "body"), [(V1, b"v=23.4"), (V2, b"12"), (V2, b""), (V2, b'{"temp"')])
def test_a_client_that_leaves_in_mid_request_leaves_nothing(
    http: Connection, known: Account, path: str, body: bytes
) -> None:
    for device in ("d1", "new"):
        http.leave_in_mid_request(path, {"X-DEVICETOKEN": known.device_token, "X-DEVICEID": device}, body)
    assert post(http, known, b"1").short == (200, "OK")
    assert values(known) == ["0", "1"]
    assert Device.objects.count() == 1
    assert not RejectedMessage.objects.exists()
