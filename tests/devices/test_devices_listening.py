"""Since when the platform listens: marks, and the gaps between them. That time passes is made by moving the
rows into the past; that the clock is set back, by moving them into the future."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from thingscale.devices import listening
from thingscale.devices.listening import Door
from thingscale.devices.models import Listening, ListeningGap
from thingscale.devices.tasks import forget_old_activity

A, B = uuid4(), uuid4()
MQTT, HTTP = Door.MQTT, Door.HTTP

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_shared_stack")]


@pytest.fixture
def cursor() -> Iterator[psycopg.Cursor]:
    connection.ensure_connection()
    for table in (Listening, ListeningGap):  # what gateways of earlier tests have written
        table.objects.all().delete()
    with connection.connection.cursor() as opened:
        yield opened


def pass_(seconds: float) -> None:
    """For everything that is written so far."""
    ago = timedelta(seconds=seconds)
    for row in Listening.objects.all():
        Listening.objects.filter(pk=row.pk).update(at=row.at - ago, until=row.until - ago)
    for gap in ListeningGap.objects.all():
        gap.began_at -= ago
        gap.ended_at = gap.ended_at and gap.ended_at - ago
        gap.save()


def listened(seconds: float) -> None:
    """For so long; the marks are there."""
    pass_(seconds)
    now = timezone.now()
    Listening.objects.update(at=now, until=now)


def gaps(door: Door = MQTT) -> list[tuple[float, float | None]]:
    """How many seconds ago each began and ended."""
    now = timezone.now()

    def ago(moment: datetime | None) -> float | None:
        return None if moment is None else round((now - moment).total_seconds())

    found = ListeningGap.objects.filter(door=door).order_by("pk").values_list("began_at", "ended_at")
    return [(ago(began) or 0, ago(ended)) for began, ended in found]


def until(writer: UUID) -> float:
    """How many seconds ago."""
    return round((timezone.now() - Listening.objects.get(pk=writer).until).total_seconds(), 1)


def test_the_first_mark_ends_the_time_in_which_nobody_listened(cursor: psycopg.Cursor) -> None:
    listening.mark(cursor, A, MQTT, 0)
    listening.mark(cursor, B, MQTT, 0)
    assert (gaps(MQTT), gaps(HTTP)) == ([(0, 0)], [])


def test_marks_go_on_without_a_gap(cursor: psycopg.Cursor) -> None:
    listening.mark(cursor, A, MQTT, 0)
    for _ in range(100):
        pass_(9)
        listening.mark(cursor, A, MQTT, 2)
    [(began, ended)] = gaps()
    assert began == ended
    assert began >= 900  # and what the test itself took
    assert until(A) == 2
    pass_(5)
    listening.mark(cursor, A, MQTT, 1000)  # more than before waits to be written
    assert until(A) == 7
    listening.mark(cursor, A, MQTT, 60)
    assert until(A) == 7


@pytest.mark.parametrize("seconds", [11, 600, 3600])
def test_without_marks_for_a_while_there_is_a_gap(cursor: psycopg.Cursor, seconds: int) -> None:
    """The database was away, its clock was set forward, or the process stood still."""
    listening.mark(cursor, A, MQTT, 0)
    listened(500)
    pass_(seconds)
    listening.mark(cursor, A, MQTT, 3)
    assert gaps() == [(500 + seconds, 500 + seconds), (seconds, 0)]
    assert until(A) == 3


def test_a_clock_that_is_set_back_makes_a_gap(cursor: psycopg.Cursor) -> None:
    listening.mark(cursor, A, MQTT, 0)
    pass_(-3600)
    listening.mark(cursor, A, MQTT, 0)
    assert gaps() == [(0, 0)]
    assert until(A) == 0


def test_who_looks_before_that_mark_finds_nobody(cursor: psycopg.Cursor) -> None:
    for seconds in (-3600, 3600):
        listening.mark(cursor, A, MQTT, 0)
        pass_(seconds)
        listening.note_ended(cursor)
        assert not Listening.objects.exists()
        assert gaps()[-1][1] is None
        listening.mark(cursor, A, MQTT, 0)
        assert gaps()[-1][1] == 0


def test_a_process_that_is_killed(cursor: psycopg.Cursor) -> None:
    for writer in (A, B):
        listening.mark(cursor, writer, MQTT, 2)
    listened(1000)
    pass_(8)
    listening.mark(cursor, B, MQTT, 2)
    listening.note_ended(cursor)
    assert len(gaps()) == 1  # it may be slow
    pass_(3)
    listening.note_ended(cursor)
    assert list(Listening.objects.values_list("pk", flat=True)) == [B]
    assert gaps() == [(1011, 1011), (11, 0)]


def test_the_last_one_is_killed(cursor: psycopg.Cursor) -> None:
    listening.mark(cursor, A, MQTT, 0)
    listening.mark(cursor, B, HTTP, 0)
    listened(1000)
    pass_(30)
    Listening.objects.filter(pk=B).update(at=timezone.now())
    listening.note_ended(cursor)
    assert gaps() == [(1030, 1030), (30, None)]
    assert gaps(HTTP) == [(1030, 1030)]
    pass_(3600)
    listening.mark(cursor, A, MQTT, 0)
    assert gaps() == [(4630, 4630), (3630, 0)]


def test_who_leaves_cuts_its_clients_of_mqtt_off(cursor: psycopg.Cursor) -> None:
    for door in (MQTT, HTTP):
        for writer in (UUID(int=door), UUID(int=10 + door)):
            listening.mark(cursor, writer, door, 0)
    listened(1000)
    for door in (MQTT, HTTP):
        listening.leave(cursor, UUID(int=door))
    assert gaps(MQTT) == [(1000, 1000), (0, 0)]
    assert gaps(HTTP) == [(1000, 1000)]
    pass_(60)
    for door in (MQTT, HTTP):
        listening.leave(cursor, UUID(int=10 + door))
    assert gaps(MQTT) == [(1060, 1060), (60, None)]
    assert gaps(HTTP) == [(1060, 1060), (0, None)]


def test_a_process_that_ends_again_and_again_makes_one_gap(cursor: psycopg.Cursor) -> None:
    for _ in range(20):
        listening.mark(cursor, A, MQTT, 0)
        pass_(60)
        listening.leave(cursor, A)
    assert len(gaps()) == 1


@pytest.mark.usefixtures("cursor")
def test_gaps_are_kept_for_longer_than_any_silence() -> None:
    now = timezone.now()
    for days in (401, 399):
        ListeningGap.objects.create(
            door=MQTT, began_at=now - timedelta(days=500), ended_at=now - timedelta(days=days)
        )
    forget_old_activity()
    assert [ended for _, ended in gaps()] == [399 * 86400]
