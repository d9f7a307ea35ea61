"""The last messages of each intake. The connectors note them; whoever calls this sees to it that a sender of
thousands a second is noted a few times only."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import orjson
import psycopg
from django.db.backends.utils import CursorWrapper

from thingscale.intakes.formats.readings import Reading
from thingscale.intakes.formats.templates import may_be_secret
from thingscale.intakes.models import IntakeMessage
from thingscale.lib.ids import IntakePk

MAX_VALUE = 500  # characters of a value that are kept
MAX_HEADERS, MAX_HEADER = 20, 200
MAX_DETAIL = 1000
_UNSTORABLE = str.maketrans({"\0": "\ufffd"})  # what no text of PostgreSQL has


class Note(NamedTuple):
    intake: IntakePk
    received_at: datetime
    source: str  # the topic, or the method and path without the key
    headers: Mapping[str, str]
    body: bytes  # unpacked
    size: int  # of all of it
    readings: Sequence[Reading]
    reading_count: int  # of all of them
    outcome: str  # IntakeMessage.Outcome
    reason: str = ""
    detail: str = ""
    left_out: int = 0  # what had no number to store

    @classmethod
    def of(  # noqa: PLR0913, PLR0917  (a column each)
        cls,
        intake: IntakePk,
        received_at: datetime,
        source: str,
        headers: Mapping[str, str],
        body: bytes,
        readings: Sequence[Reading],
        outcome: str,
        reason: str = "",
        detail: str = "",
        left_out: int = 0,
    ) -> "Note":
        """With what is kept of them."""
        return cls(
            intake,
            received_at,
            source,
            visible_headers(headers),
            body[: IntakeMessage.EXCERPT],
            len(body),
            readings[: IntakeMessage.READINGS],
            len(readings),
            outcome,
            reason,
            detail,
            left_out,
        )


def note_messages(cursor: psycopg.Cursor[Any] | CursorWrapper, notes: Sequence[Note]) -> None:
    """In the order in which they came. Of each intake, the newest stay. An intake is locked, so that one that
    somebody deletes now takes its own notes with it and no others."""
    if not notes:
        return
    rows = [_row(note) for note in notes]
    cursor.execute(
        """INSERT INTO intakes_intakemessage
            (intake_id, received_at, source, headers, body, size, readings, count, outcome, reason, detail,
            left_out)
        SELECT given.intake, given.received_at, given.source, given.headers::jsonb, given.body, given.size,
            given.readings::jsonb, given.count, given.outcome, given.reason, given.detail,
            given.left_out
        FROM unnest(%s::bigint[], %s::timestamptz[], %s::text[], %s::text[], %s::bytea[], %s::int[],
            %s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::int[]) WITH ORDINALITY
            AS given (intake, received_at, source, headers, body, size, readings, count, outcome, reason,
                detail, left_out, place)
        JOIN intakes_intake i ON i.id = given.intake
        ORDER BY given.place
        FOR KEY SHARE OF i""",
        [list(column) for column in zip(*rows, strict=True)],
    )
    cursor.execute(
        """DELETE FROM intakes_intakemessage m USING unnest(%s::bigint[]) AS i (id)
        WHERE m.intake_id = i.id AND m.id <= (
            SELECT id FROM intakes_intakemessage WHERE intake_id = i.id
            ORDER BY id DESC OFFSET %s LIMIT 1)""",
        [list({note.intake for note in notes}), IntakeMessage.KEPT],
    )


def visible_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Without those that may be secret. Names are in small letters."""
    shown = (
        (name.lower()[:MAX_HEADER], value[:MAX_HEADER])
        for name, value in headers.items()
        if not may_be_secret(name.lower())
    )
    return {_text(name): _text(value) for name, value in islice(shown, MAX_HEADERS)}


def excerpt_of(readings: Iterable[Reading]) -> list[dict[str, Any]]:
    """Of the first readings, as IntakeMessage has them."""
    return [
        {"device_id": device_id, "tag": tag, "value": _cut(value.decode()), "at": at}
        for device_id, tag, value, at in islice(readings, IntakeMessage.READINGS)
    ]


def _row(note: Note) -> tuple[Any, ...]:
    return (
        note.intake,
        note.received_at,
        _text(note.source)[: IntakeMessage.SOURCE],
        orjson.dumps(note.headers).decode(),
        note.body,
        note.size,
        orjson.dumps(excerpt_of(note.readings)).decode(),
        note.reading_count,
        note.outcome,
        note.reason,
        _text(note.detail)[:MAX_DETAIL],
        note.left_out,
    )


def _cut(text: str) -> str:
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def _text(text: str) -> str:
    """As UTF-8 can be stored."""
    return text.translate(_UNSTORABLE).encode("utf-8", "replace").decode()
