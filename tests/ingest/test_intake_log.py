"""The thread that writes down the last messages of intakes."""

import time

import pytest
from django.utils import timezone
from stack import wait_until
from support import Account

from ingest import intake_log
from ingest.intake_log import IntakeLog
from thingscale.intakes.actions import create_intake
from thingscale.intakes.messages import Note
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


def test_it_does_not_turn_round_with_nothing_to_do(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note that could not be written is gone, and its wake-up with it."""
    log = IntakeLog()
    used: list[float] = []

    def fails(*_: object) -> None:
        log._wakeup.set()  # as by a note that was taken before its wake-up came
        raise UNWELL[0]

    monkeypatch.setattr(intake_log, "note_messages", fails)
    monkeypatch.setattr(intake_log, "FAILED_SECONDS", 0.0)
    run = log._run

    def measured() -> None:
        run()
        used.append(time.thread_time())

    log._thread._work = measured
    log.start()
    log.note(a_note(intake))
    wait_until(lambda: not log._waiting and not log._wakeup.is_set(), what="the thread to rest")
    log.stop()
    assert used[0] < 1.0


def test_a_sender_of_thousands_is_noted_a_few_times(intake: Intake) -> None:
    log = IntakeLog()
    wanted = [
        log.wants(intake.pk, outcome) for _ in range(1000) for outcome in ("stored", "rejected", "held")
    ]
    assert 2 <= sum(wanted) <= 6
    for number in range(2 * intake_log.MAX_WAITING):
        log.note(a_note(intake, b"%d" % number))
    assert len(log._waiting) == intake_log.MAX_WAITING
