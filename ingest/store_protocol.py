"""Messages and their outcomes as bytes, between the gateway's process and the store's. Pure.

`marshal` is fast and knows plain values only, in the form of this Python version: the two processes are one
program, so that is enough.
"""

import marshal
import struct
from collections.abc import Sequence
from itertools import repeat
from typing import Any

from ingest.message import STORED, Kept, Kind, Outcome, RawMessage, Reason, Status
from ingest.metrics import Figures
from ingest.session_work import Asked, Behind, Found, RetainedAsked, RetainedPage
from thingscale.devices.mqtt_store.app_messages import PublishedMessage
from thingscale.devices.mqtt_store.queues import Progress, QueuedRow
from thingscale.devices.mqtt_store.retained import RetainedMessage
from thingscale.devices.mqtt_store.sessions import Disconnected, Open, Opened, WaitingWill
from thingscale.devices.mqtt_store.subscriptions import StoredSubscription
from thingscale.lib.points import Points

PLAIN = 2  # marshal's version without references, to look for which would cost more than they save
LENGTH = struct.Struct(">I")

RECEIVED_AT = RawMessage._fields.index("received_at")
_KIND = RawMessage._fields.index("kind")
_REFUSED = RawMessage._fields.index("refused")
_KEPT = RawMessage._fields.index("kept")
_POINTS = RawMessage._fields.index("points")
_KINDS = {kind.value: kind for kind in Kind}
_NAMES = {kind: kind.value for kind in Kind}

PlainOutcome = tuple[str, str | None, str]
# Number of a submission; outcomes (None: all stored); numbers of the copies of each message that has some;
# what was found for its sessions (False: it can't be).
Answer = tuple[int, list[PlainOutcome] | None, list[list[int]], Any]
Columns = Sequence[Sequence[Any]]  # messages by field
Report = tuple[Figures, bool]  # and whether the store is ready


def frame(value: Any) -> bytes:
    """A value with its length in front."""
    data = marshal.dumps(value, PLAIN)
    return LENGTH.pack(len(data)) + data


class Frames:
    """Cuts a stream of bytes into values."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        self._rest += data
        values = []
        start = 0
        while len(self._rest) - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._rest, start)
            end = start + LENGTH.size + length
            if end > len(self._rest):
                break
            values.append(marshal.loads(self._rest[start + LENGTH.size : end]))  # noqa: S302  from ourselves
            start = end
        del self._rest[:start]
        return values


def columns(messages: Sequence[RawMessage]) -> Columns:
    """Messages by field: whatever runs message by message is slower."""
    if not messages:
        return ()
    fields: list[tuple[Any, ...]] = list(zip(*messages, strict=True))
    fields[_KIND] = tuple(map(_NAMES.__getitem__, fields[_KIND]))
    fields[_REFUSED] = tuple([reason and reason.value for reason in fields[_REFUSED]])
    fields[_KEPT] = tuple([kept and tuple(kept) for kept in fields[_KEPT]])
    fields[_POINTS] = tuple([points and tuple(points) for points in fields[_POINTS]])
    return fields


def messages(fields: Columns) -> list[RawMessage]:
    if not fields:
        return []
    by_field = list(fields)
    by_field[_KIND] = list(map(_KINDS.__getitem__, by_field[_KIND]))
    by_field[_REFUSED] = [reason and Reason(reason) for reason in by_field[_REFUSED]]
    by_field[_KEPT] = [kept and Kept(*kept) for kept in by_field[_KEPT]]
    by_field[_POINTS] = [points and Points(*points) for points in by_field[_POINTS]]
    return list(map(tuple.__new__, repeat(RawMessage), zip(*by_field, strict=True)))  # its own way is slower


def answer(number: int, outcomes: Sequence[Outcome], copies: list[list[int]], found: Any) -> Answer:
    if outcomes.count(STORED) == len(outcomes):
        return number, None, copies, found
    plain_outcomes = [(status.value, reason and reason.value, detail) for status, reason, detail in outcomes]
    return number, plain_outcomes, copies, found


def outcomes(plain_outcomes: list[PlainOutcome] | None, count: int) -> list[Outcome]:
    """The outcomes of `count` messages."""
    if plain_outcomes is None:
        return [STORED] * count
    return [_outcome(*each) for each in plain_outcomes]


def _outcome(status: str, reason: str | None, detail: str) -> Outcome:
    """Returns STORED itself where it applies, since others compare it by identity."""
    if reason is None and status == Status.STORED and not detail:
        return STORED
    return Outcome(Status(status), Reason(reason) if reason else None, detail)


# What is asked and found for sessions, as plain values


def plain(value: Any) -> Any:
    """Named tuples as tuples, at any depth."""
    if isinstance(value, tuple | list):
        return tuple([plain(each) for each in value])
    return value


def plain_behind(behind: Behind) -> Any:
    """As `plain`, but not at any depth: each progress may have a hundred packet ids."""
    progress, disconnected, *others = behind
    return tuple(map(tuple, progress)), tuple(map(tuple, disconnected)), *others


def asked_of(fields: Any) -> Asked:
    opens, unsubscribe, subscribe, queues, retained, published, expire, wills = fields
    return Asked(
        [Open(*each) for each in opens],
        unsubscribe,
        [(session, StoredSubscription(*each)) for session, each in subscribe],
        queues,
        [RetainedAsked(*each) for each in retained],
        published,
        expire,
        wills,
    )


def behind_of(fields: Any) -> Behind:
    progress, disconnected, *others = fields
    return Behind(
        [Progress(*each) for each in progress], [Disconnected(*each) for each in disconnected], *others
    )


def found_of(fields: Any) -> Found:
    opened, queues, retained, published, ended, wills, next_will = fields
    return Found(
        [
            each._replace(
                subscriptions=[StoredSubscription(*subscribed) for subscribed in each.subscriptions]
            )
            for each in (Opened(*fields) for fields in opened)
        ],
        [[QueuedRow(*row) for row in rows] for rows in queues],
        [
            RetainedPage([RetainedMessage(*row) for row in rows], first, count, more)
            for rows, first, count, more in retained
        ],
        [PublishedMessage(*each) for each in published],
        ended,
        [WaitingWill(*each) for each in wills],
        next_will,
    )
