"""What came under a key of its own is remembered for the window, and no longer."""

from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from thingscale.lib.clock import now_us
from thingscale.streams.exactly_once import idempotent_requests
from thingscale.streams.exactly_once.idempotent_requests import IdempotentRequest, Key
from thingscale.streams.models import Submitted

HOUR = 3_600_000_000
ONE, OTHER = UUID(int=1), UUID(int=2)


@pytest.fixture
def raw(transactional_db: None) -> psycopg.Connection:
    connection.ensure_connection()
    opened: psycopg.Connection = connection.connection
    return opened


def record(raw: psycopg.Connection, *new: IdempotentRequest) -> None:
    with raw.transaction(), raw.cursor() as cursor:
        idempotent_requests.record(cursor, new)


def find(raw: psycopg.Connection, *keys: Key) -> dict[Key, IdempotentRequest]:
    with raw.cursor() as cursor:
        return idempotent_requests.find(cursor, dict.fromkeys(keys, now_us() - HOUR))


def test_it_is_found_by_its_account_and_key(raw: psycopg.Connection) -> None:
    one = IdempotentRequest(1, -7, ONE, "3")
    record(raw, IdempotentRequest(2, 7, OTHER, ""), one)
    assert find(raw, (1, -7), (2, -7), (1, 7)) == {(1, -7): one}


def test_past_the_window_another_takes_its_place(raw: psycopg.Connection) -> None:
    record(raw, IdempotentRequest(1, -7, ONE, ""))
    Submitted.objects.update(arrived_at=timezone.now() - timedelta(hours=2))
    assert find(raw, (1, -7)) == {}
    new = IdempotentRequest(1, -7, OTHER, "3")
    record(raw, new)
    assert find(raw, (1, -7)) == {(1, -7): new}


def test_what_was_held_is_answered_otherwise_once_it_is_stored(raw: psycopg.Connection) -> None:
    record(raw, IdempotentRequest(1, -7, ONE, "NO_MAPPED_CH"), IdempotentRequest(2, -7, ONE, "NO_MAPPED_CH"))
    with raw.cursor() as cursor:
        idempotent_requests.change_answer(cursor, {(1, -7), (1, -8)}, "")
    found = find(raw, (1, -7), (2, -7))
    assert {key: each.answer for key, each in found.items()} == {(1, -7): "", (2, -7): "NO_MAPPED_CH"}


@pytest.mark.parametrize("count", [0, 1, 9, 10, 25])
def test_old_ones_are_forgotten_some_at_a_time(
    raw: psycopg.Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(idempotent_requests, "BATCH_ROWS", 5)
    settings.DEDUPE_SECONDS = 3600
    new = IdempotentRequest(2, 1, ONE, "")
    record(
        raw, *(IdempotentRequest(1, number, ONE, "") for number in range(count)), new
    ) if count else record(raw, new)
    for age, each in enumerate(Submitted.objects.filter(account=1), 3601):
        Submitted.objects.filter(account=1, key=each.key).update(
            arrived_at=timezone.now() - timedelta(seconds=age)
        )
    idempotent_requests.delete_old()
    assert list(Submitted.objects.values_list("account", flat=True)) == [2]
