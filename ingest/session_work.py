"""What the gateway asks of the database for its clients' sessions, beside what they publish. It goes with a
submission, in the same transaction and order."""

import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, zip_longest
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from django.conf import settings

from ingest.message import Copy, Kept
from ingest.stored_packet import stored_packet
from thingscale.devices import durable, mqtt_store
from thingscale.devices.mqtt_store import (
    Left,
    Open,
    Opened,
    Progress,
    PublishedMessage,
    QueuedRow,
    RetainedMessage,
    Subscribed,
    WaitingWill,
)

QUEUE_BYTES = 256 * 1024  # of a session, read at once; or the messages of one batch
RETAINED_ROWS = 100  # read at once
RETAINED_BYTES = 256 * 1024  # the same; but one message in any case
RETAINED_BYTES_IN_ALL = 1024 * 1024  # by one submission: what finds no room is asked for again
RETAINED_SECONDS = 0.05  # the same; but one filter of each account in any case
ENDED_AT_ONCE = 1_000
NO_WILLS: tuple[Sequence[WaitingWill], float | None] = ((), None)


class RetainedAsked(NamedTuple):
    """What a new subscription is to get. A session that lasts gets it into its queue, at a QoS above 0."""

    account: int
    filter: str
    after: str  # topic, or empty
    copy: Copy | None


class RetainedPage(NamedTuple):
    rows: Sequence[RetainedMessage] = ()
    first: int = 0  # number in the queue
    queued: int = 0  # how many there was room for in the queue, of those above QoS 0
    more: bool = False  # behind these


class Asked(NamedTuple):
    """Done before the messages of the batch, in this order."""

    open: Sequence[Open] = ()
    unsubscribe: Sequence[tuple[int, str, str]] = ()  # session, group, filter
    subscribe: Sequence[tuple[int, Subscribed]] = ()  # session
    queues: Sequence[tuple[int, int]] = ()  # session, first number
    retained: Sequence["RetainedAsked"] = ()
    published: Sequence[int] | None = None  # what apps publish, but these that are known
    end: bool = False  # the sessions that are over
    wills: Sequence[int] | None = None  # those that are due, and of these sessions, which end


class Found(NamedTuple):
    """Each in the order in which it was asked for."""

    opened: Sequence[Opened] = ()
    queues: Sequence[Sequence[QueuedRow]] = ()
    retained: Sequence[RetainedPage] = ()
    published: Sequence[PublishedMessage] = ()
    ended: Sequence[tuple[int, int]] = ()  # session, account
    wills: Sequence[WaitingWill] = ()
    next_will: float | None = None  # seconds until it is due; None: there is none


class Behind(NamedTuple):
    """Done behind the messages of the batch."""

    progress: Sequence[Progress] = ()
    left: Sequence[Left] = ()
    published: Sequence[int] = ()  # what apps have published is in the queues
    results: Mapping[int, str] = {}  # of commands
    wills: Sequence[int] = ()  # sessions whose wills are published


class SessionWork:
    """Of one submission. The writer fills in what it has found."""

    __slots__ = ("asked", "behind", "failed", "found")

    def __init__(self, asked: Asked | None, behind: Behind | None) -> None:
        self.asked = asked
        self.behind = behind
        self.found: Found | None = None
        self.failed = False

    def answer(self, cursor: psycopg.Cursor, gateway: UUID) -> None:
        """Raises psycopg.Error."""
        asked = self.asked
        if asked is None:
            return
        lasting = [(each.account, each.client_id) for each in asked.open if each.lasts and not each.clean]
        if lasting:
            durable.adopt(cursor, lasting, settings.DURABLE_SESSION_DAYS)
        opened = mqtt_store.open_sessions(cursor, gateway, asked.open) if asked.open else ()
        if asked.unsubscribe:
            mqtt_store.unsubscribe(cursor, asked.unsubscribe)
        if asked.subscribe:
            mqtt_store.subscribe(cursor, asked.subscribe)
        queues = mqtt_store.queued(cursor, asked.queues, QUEUE_BYTES) if asked.queues else {}
        wills, next_will = NO_WILLS if asked.wills is None else mqtt_store.claim_wills(cursor, asked.wills)
        self.found = Found(
            opened,
            [queues[key] for key, _ in asked.queues],
            _read_retained(cursor, asked.retained),
            mqtt_store.claim(cursor, gateway, asked.published) if asked.published is not None else (),
            mqtt_store.expire_sessions(cursor, ENDED_AT_ONCE) if asked.end else (),
            wills,
            next_will,
        )


def _read_retained(cursor: psycopg.Cursor, asked: Sequence[RetainedAsked]) -> list[RetainedPage]:
    """Each account has its turn: with very many retained messages a filter may take long."""
    retaining = mqtt_store.retaining(cursor, {each.account for each in asked})
    of_account: dict[int, list[int]] = {}
    for place, each in enumerate(asked):
        if each.account in retaining:
            of_account.setdefault(each.account, []).append(place)
    pages = [RetainedPage(more=each.account in retaining) for each in asked]
    room, deadline = RETAINED_BYTES_IN_ALL, time.monotonic() + RETAINED_SECONDS
    for turn, places in enumerate(zip_longest(*of_account.values())):
        for place in places:
            if place is None or room <= 0 or (turn and time.monotonic() >= deadline):
                continue
            pages[place] = _read_page(cursor, asked[place])
            room -= sum(map(_size, pages[place].rows))
    return pages


def _read_page(cursor: psycopg.Cursor, asked: RetainedAsked) -> RetainedPage:
    account, topic_filter, after, copy = asked
    rows = mqtt_store.retained(cursor, account, topic_filter, after, RETAINED_ROWS)
    ends = list(accumulate(map(_size, rows)))
    fitting = max(bisect_right(ends, RETAINED_BYTES), 1)
    more = len(rows) == RETAINED_ROWS or len(rows) > fitting
    rows = rows[:fitting]
    packets = [
        stored_packet(Kept(row.topic, row.qos, True, row.properties, (), None, 0, []), row.payload)
        for row in rows
        if copy and row.qos
    ]
    if not copy or not packets:
        return RetainedPage(rows, more=more)
    found = mqtt_store.enqueue(cursor, [mqtt_store.Copies((copy,), packets)])
    first, count = found.get(copy[0], (0, 0))
    return RetainedPage(rows, first, count, more)


def _size(row: RetainedMessage) -> int:
    return len(row.topic) + len(row.payload) + len(row.properties)


def write_behind(cursor: psycopg.Cursor, works: Sequence[SessionWork]) -> None:
    """Of all the submissions of a batch."""
    all_behind = [work.behind for work in works if work.behind]
    if progress := {each.session: each for behind in all_behind for each in behind.progress}:
        mqtt_store.progress(cursor, progress)
    if left := [each for behind in all_behind for each in behind.left]:
        mqtt_store.leave(cursor, left)
    if wills := [key for behind in all_behind for key in behind.wills]:
        mqtt_store.wills_published(cursor, wills)
    if published := [key for behind in all_behind for key in behind.published]:
        mqtt_store.published(cursor, published)
    if results := {key: result for behind in all_behind for key, result in behind.results.items()}:
        mqtt_store.command_results(cursor, results)


# As plain values, for the way between the two processes (exchange.py)


def plain(value: Any) -> Any:
    """Named tuples as tuples, at any depth."""
    if isinstance(value, tuple | list):
        return tuple([plain(each) for each in value])
    return value


def plain_behind(behind: Behind) -> Any:
    """There may be a hundred packet ids in each progress, so not at any depth."""
    progress, left, *others = behind
    return tuple(map(tuple, progress)), tuple(map(tuple, left)), *others


def asked_of(fields: Any) -> Asked:
    opens, unsubscribe, subscribe, queues, retained, published, end, wills = fields
    return Asked(
        [Open(*each) for each in opens],
        unsubscribe,
        [(session, Subscribed(*each)) for session, each in subscribe],
        queues,
        [RetainedAsked(*each) for each in retained],
        published,
        end,
        wills,
    )


def behind_of(fields: Any) -> Behind:
    progress, left, *others = fields
    return Behind([Progress(*each) for each in progress], [Left(*each) for each in left], *others)


def found_of(fields: Any) -> Found:
    opened, queues, retained, published, ended, wills, next_will = fields
    return Found(
        [_opened(*each) for each in opened],
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


def _opened(*fields: Any) -> Opened:
    opened = Opened(*fields)
    return opened._replace(subscriptions=[Subscribed(*each) for each in opened.subscriptions])
