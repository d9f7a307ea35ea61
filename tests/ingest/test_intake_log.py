"""The thread that writes down the last messages of intakes."""

import time
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from django.utils import timezone
from stack import wait_until
from support import Account

from ingest import intake_log
from ingest.intake_log import IntakeLog
from thingscale.intakes.actions import create_intake
from thingscale.intakes.messages import Note, note_messages
from thingscale.intakes.models import Intake, IntakeMessage
from thingscale.processes.own_connection import UNWELL


@pytest.fixture
def intake(account: Account) -> Intake:
    return create_intake(account.user, {"name": "Servers", "format": "influx"})[0]


def a_note(intake: Intake, body: bytes = b"x") -> Note:
    return Note.of(intake.id, timezone.now(), "topic", {}, body, (), IntakeMessage.Outcome.NOTHING)


def test_what_is_noted_is_written_a_moment_later(intake: Intake) -> None:
    log = IntakeLog()
    log.start()
    try:
        for body in (b"1", b"2"):
            log.note(a_note(intake, body))
            wait_until(IntakeMessage.objects.filter(body=body).exists, what="the note")
    finally:
        log.stop()


def test_what_could_not_be_written_is_tried_again(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its order, and then the thread rests."""
    log = IntakeLog()
    used: list[float] = []
    failures = [UNWELL[0], UNWELL[1]]

    def fails_first(cursor: psycopg.Cursor[Any], notes: Sequence[Note]) -> None:
        if failures:
            log.note(a_note(intake, b"later"))
            raise failures.pop()
        note_messages(cursor, notes)

    monkeypatch.setattr(intake_log, "note_messages", fails_first)
    monkeypatch.setattr(intake_log, "FAILED_SECONDS", 0.0)
    run = log._run

    def measured() -> None:
        run()
        used.append(time.thread_time())

    log._thread._work = measured
    log.note(a_note(intake, b"first"))
    log.start()
    wait_until(lambda: IntakeMessage.objects.count() == 3, what="all notes")
    assert [bytes(m.body) for m in IntakeMessage.objects.order_by("id")] == [b"first", b"later", b"later"]
    wait_until(lambda: not log._waiting and not log._wakeup.is_set(), what="the thread to rest")
    log.stop()
    assert used[0] < 1.0


def test_of_too_many_that_could_not_be_written_the_newest_stay(intake: Intake) -> None:
    log, notes = IntakeLog(), [a_note(intake, b"%d" % n) for n in range(intake_log.MAX_WAITING)]
    for note in notes:
        log.note(note)

    class Away:
        def transaction(self) -> None:
            log.note(notes[0])  # one that comes meanwhile
            raise UNWELL[0]

    with pytest.raises(UNWELL):
        log._write(Away())  # type: ignore[arg-type]
    assert list(log._waiting) == [*notes[1:], notes[0]]


def test_a_sender_of_thousands_is_noted_a_few_times(intake: Intake) -> None:
    log = IntakeLog()
    wanted = [
        log.wants(intake.pk, outcome) for _ in range(1000) for outcome in ("stored", "rejected", "held")
    ]
    assert 2 <= sum(wanted) <= 6
    for number in range(2 * intake_log.MAX_WAITING):
        log.note(a_note(intake, b"%d" % number))
    assert len(log._waiting) == intake_log.MAX_WAITING
