"""The last messages of an intake."""

import threading
from datetime import timedelta
from typing import Any

import orjson
from django.db import connection, transaction
from django.utils import timezone
from stack import wait_until
from support import Account

from thingscale.intakes.actions import create_intake, delete_intake
from thingscale.intakes.clean_up import clean_up
from thingscale.intakes.formats.readings import Reading
from thingscale.intakes.messages import Note, note_messages
from thingscale.intakes.models import Intake, IntakeMessage
from thingscale.processes import own_connection

READING = Reading("d1", "temp", b"21.5", None)


def a_note(intake: Intake, **changes: Any) -> Note:
    fields: dict[str, Any] = {
        "intake": intake.id,
        "received_at": timezone.now(),
        "source": "POST /in/…",
        "headers": {},
        "body": b"temp 21.5",
        "readings": [READING],
        "outcome": IntakeMessage.Outcome.STORED,
    }
    return Note.of(**fields | changes)


def an_intake(account: Account) -> Intake:
    return create_intake(account.user, {"name": "Telegraf", "format": "influx"})[0]


def noted(*notes: Note) -> list[IntakeMessage]:
    with connection.cursor() as cursor:
        note_messages(cursor, notes)
    return list(IntakeMessage.objects.order_by("id"))


def test_what_is_kept(account: Account) -> None:
    [message] = noted(a_note(an_intake(account)))
    assert bytes(message.body) == b"temp 21.5"
    assert message.readings == [{"device_id": "d1", "tag": "temp", "value": "21.5", "at": None}]
    assert (message.size, message.count, message.outcome) == (9, 1, "stored")


def test_the_newest_of_each_intake_stay(account: Account) -> None:
    first, second = an_intake(account), an_intake(account)
    noted(*(a_note(first, detail=str(n)) for n in range(25)), a_note(second, detail="x"))
    kept = noted(*(a_note(first, detail=str(n)) for n in range(25, 27)))
    assert [message.detail for message in kept if message.intake_id == first.pk] == [
        str(n) for n in range(7, 27)
    ]
    assert [message.detail for message in kept if message.intake_id == second.pk] == ["x"]


def test_nothing_is_kept_whole_that_is_large(account: Account) -> None:
    readings = [Reading("d1", None, orjson.dumps("x" * 60_000), 1)] * 500
    headers = {f"x-{n}": "y" * 5000 for n in range(100)}
    [message] = noted(
        a_note(
            an_intake(account),
            body=b"b" * 1_000_000,
            readings=readings,
            headers=headers,
            source="s" * 5000,
            detail="d" * 5000,
        )
    )
    assert len(bytes(message.body)) == 4096
    assert (message.size, message.count) == (1_000_000, 500)
    assert len(message.readings) == len(message.headers) == 20
    assert len(orjson.dumps([message.readings, message.headers])) < 20_000
    assert (len(message.source), len(message.detail)) == (300, 1000)


def test_no_secret_is_kept(account: Account) -> None:
    names = ["Authorization", "Cookie", "X-DEVICETOKEN", "X-Api-Key", "Proxy-Authorization", "X-Signature"]
    names += ["X-Original-URI", "X-Rewrite-Url", "Referer", "X-Envoy-Original-Path", "X-Pwd"]
    secret = dict.fromkeys(names, "secret")
    [message] = noted(a_note(an_intake(account), headers=secret | {"X-Limit-D": "phone"}))
    assert message.headers == {"x-limit-d": "phone"}


def test_what_postgresql_could_not_take(account: Account) -> None:
    [message] = noted(
        a_note(an_intake(account), source="a\0\ud800", headers={"a": "\0\udcff"}, detail="\0", body=b"\0\xff")
    )
    assert (message.source, message.headers, message.detail) == ("a\ufffd?", {"a": "\ufffd?"}, "\ufffd")
    assert bytes(message.body) == b"\0\xff"


def test_of_an_intake_that_is_gone_nothing_is_kept(account: Account) -> None:
    gone, stays = an_intake(account), an_intake(account)
    old = a_note(gone)
    noted(old)
    delete_intake(gone)
    assert noted(old, a_note(stays))[0].intake_id == stays.pk
    assert IntakeMessage.objects.count() == 1
    assert noted() == list(IntakeMessage.objects.all())


def test_an_intake_that_is_deleted_meanwhile(account: Account) -> None:
    """Takes its own notes with it, and no others; and whoever deletes it gets no error."""
    gone, stays = an_intake(account), an_intake(account)
    noting = own_connection.connect("notes")

    def delete() -> None:
        delete_intake(gone)
        connection.close()

    deleting = threading.Thread(target=delete)
    with noting, noting.transaction(), noting.cursor() as cursor:
        note_messages(cursor, [a_note(gone), a_note(stays)])
        deleting.start()
        wait_until(lambda: waits_for(noting.info.backend_pid), what="the deletion to wait")
    deleting.join(60)
    assert [message.intake_id for message in IntakeMessage.objects.all()] == [stays.pk]
    assert list(Intake.objects.all()) == [stays]


def waits_for(pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND %s = ANY(pg_blocking_pids(pid)))",
            [pid],
        )
        return bool(cursor.fetchone()[0])


def test_a_note_of_an_intake_that_is_being_deleted(account: Account) -> None:
    gone, stays = an_intake(account), an_intake(account)
    notes = [a_note(gone), a_note(stays)]

    def note_both() -> None:
        noted(*notes)
        connection.close()

    noting = threading.Thread(target=note_both)
    with transaction.atomic():
        delete_intake(gone)
        noting.start()
        wait_until(lambda: waits_for(connection.connection.info.backend_pid), what="the note to wait")
    noting.join(60)
    assert [message.intake_id for message in IntakeMessage.objects.all()] == [stays.pk]


def test_a_week_later(account: Account) -> None:
    intake = an_intake(account)
    now = timezone.now()
    noted(a_note(intake, received_at=now - timedelta(days=7.1)), a_note(intake, detail="new"))
    clean_up()
    assert [message.detail for message in IntakeMessage.objects.all()] == ["new"]
