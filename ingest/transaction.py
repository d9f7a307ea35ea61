"""What the one transaction of a batch does, in this order: it answers what sessions ask, writes the messages,
and writes what sessions have to remember behind them."""

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence, Set
from datetime import timedelta
from itertools import accumulate, zip_longest
from uuid import UUID

import psycopg
from django.conf import settings

from ingest.batch import Batch
from ingest.message import Copy, Kept, Kind, Reason, Status
from ingest.quotas import Quotas
from ingest.session_work import RETAINED_ROWS, Found, RetainedAsked, RetainedPage, SessionWork
from ingest.stored_packet import stored_packet
from thingscale.devices import writer as devices
from thingscale.devices.mqtt_store import (
    app_messages,
    previous_release,
    queues,
    retained,
    sessions,
    subscriptions,
)
from thingscale.devices.mqtt_store.retained import RetainedMessage
from thingscale.lib.clock import from_us
from thingscale.streams import writer as streams
from thingscale.streams.exactly_once import commit_log

QUEUE_BYTES = 256 * 1024  # of a session's queue, read at once; but one row in any case
RETAINED_BYTES = 256 * 1024  # of a RetainedPage; but one message in any case
RETAINED_BYTES_IN_ALL = 1024 * 1024  # for one submission: the gateway asks again for the rest
RETAINED_SECONDS = 0.05  # the same; but one filter of each account in any case
MAX_EXPIRED = 1_000  # sessions, at once
_ACCEPTED = frozenset((Status.STORED, Status.HELD))


def write(
    cursor: psycopg.Cursor,
    batch: Batch,
    works: Sequence[SessionWork],
    gateway: UUID,
    meanwhile: Callable[[], None] | None = None,
) -> None:
    """Raises psycopg.Error. `meanwhile`: of streams.write()."""
    for work in works:
        if work.asked:
            answer_session(cursor, work, gateway, batch.quotas)
    if batch.slow:
        batch.route_unknown(cursor)
        batch.write_exceptions(cursor)
    streams.write(cursor, batch.rows, meanwhile)
    if batch.kept:
        write_kept(cursor, batch)
    if batch.rejected:
        devices.reject(cursor, batch.rejected)
    write_behind(cursor, works, gateway)


def answer_session(cursor: psycopg.Cursor, work: SessionWork, gateway: UUID, quotas: Quotas) -> None:
    asked = work.asked
    assert asked
    quotas.note(each.account for each in asked.retained if each.copy)
    durable = [(each.account, each.client_id) for each in asked.open if each.stored and not each.clean]
    if durable:
        previous_release.adopt(cursor, settings.DURABLE_SESSION_DAYS, durable)
    opened = sessions.open_sessions(cursor, gateway, asked.open, commit_log.fence) if asked.open else ()
    if asked.unsubscribe:
        subscriptions.unsubscribe(cursor, asked.unsubscribe)
    if asked.subscribe:
        subscriptions.subscribe(cursor, asked.subscribe)
    read = queues.read_queues(cursor, asked.queues, QUEUE_BYTES) if asked.queues else {}
    found = Found(
        opened,
        [read[session] for session, _ in asked.queues],
        read_retained(cursor, asked.retained, quotas.queued_full),
        app_messages.claim_messages(cursor, gateway, asked.published) if asked.published is not None else (),
        sessions.expire_sessions(cursor, MAX_EXPIRED) if asked.expire else (),
    )
    if asked.wills is not None:
        wills, next_will = sessions.claim_wills(cursor, asked.wills)
        found = found._replace(wills=wills, next_will=next_will)
    work.found = found


def read_retained(
    cursor: psycopg.Cursor, asked: Sequence[RetainedAsked], queued_full: Set[int]
) -> list[RetainedPage]:
    """The accounts take turns, since a filter may take long if there are very many retained messages."""
    retaining = retained.accounts_with_retained(cursor, {each.account for each in asked})
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
            account, topic_filter, after, copy = asked[place]
            rows = retained.read_retained(cursor, account, topic_filter, after, RETAINED_ROWS)
            ends = list(accumulate(map(_size, rows)))
            fitting = max(bisect_right(ends, RETAINED_BYTES), 1)
            more = len(rows) == RETAINED_ROWS or len(rows) > fitting
            rows = rows[:fitting]
            room -= sum(map(_size, rows))
            first = count = 0
            packets = [
                stored_packet(Kept(row.topic, row.qos, True, row.properties, (), None, 0, []), row.payload)
                for row in rows
                if copy and row.qos
            ]
            if copy and packets:
                found = queues.enqueue(cursor, [queues.Copies((copy,), packets)], queued_full)
                first, count = found.get(copy[0], (0, 0))
            pages[place] = RetainedPage(rows, first, count, more)
    return pages


def _size(row: RetainedMessage) -> int:
    return len(row.topic) + len(row.payload) + len(row.properties)


def write_kept(cursor: psycopg.Cursor, batch: Batch) -> None:
    """Retained messages, and copies for the queues of sessions. Only of messages that are stored or held now:
    a duplicate has had its copies."""
    unretained = _refuse_retained(cursor, batch)
    to_retain: list[retained.Retain] = []
    groups: list[queues.Copies] = []
    last_group: dict[int, int] = {}  # by session, the group of its last message
    same: tuple[Copy, ...] = ()  # a message with these copies can join the last group
    for place in batch.kept:
        raw, outcome = batch.items[place].raw, batch.outcomes[place]
        kept = raw.kept
        if kept is None or outcome.status not in _ACCEPTED:
            continue
        if kept.retain and place not in unretained:
            at = from_us(raw.received_at)
            ends = None if kept.expires_in is None else at + timedelta(seconds=kept.expires_in)
            to_retain.append(
                retained.Retain(raw.user, kept.topic, raw.payload, kept.qos, kept.properties, at, ends)
            )
        copies = kept.copies
        if not copies:
            continue
        packet = stored_packet(kept, raw.payload)
        if copies == same and not kept.command:
            groups[-1].packets.append(packet)
            continue
        group = last_group.get(copies[0][0], -1)
        sessions = {session for session, _, _ in copies}
        joinable = not kept.command and len(sessions) == len(copies)
        if (
            joinable
            and group >= 0
            and not groups[group].command
            and groups[group].sessions == copies
            and all(last_group.get(session) == group for session in sessions)
        ):
            groups[group].packets.append(packet)
            continue
        last_group.update((session, len(groups)) for session in sessions)
        groups.append(queues.Copies(copies, [packet], kept.command))
        same = copies if joinable else ()
    if to_retain:
        retained.retain(cursor, to_retain)
    if groups:
        _number_copies(batch, queues.enqueue(cursor, groups, batch.quotas.queued_full))


def _refuse_retained(cursor: psycopg.Cursor, batch: Batch) -> set[int]:
    """Returns the places of messages that are not to be retained. A full account can replace and clear what
    it has, but not add to it. A message that would only be retained is rejected; a datapoint is stored, and
    that it is not retained is recorded."""
    refused = batch.quotas.retained_full | batch.quotas.full
    new = {
        (raw.user, kept.topic): place
        for place in batch.kept
        if (raw := batch.items[place].raw).user in refused
        and (kept := raw.kept)
        and kept.retain
        and raw.payload
        and batch.outcomes[place].status in _ACCEPTED
    }
    unretained: set[int] = set()
    if not new:
        return unretained
    known = retained.existing_topics(cursor, new)
    for place in batch.kept:
        raw = batch.items[place].raw
        topic = raw.user, raw.kept.topic if raw.kept else ""
        if topic not in new or topic in known or not raw.payload:
            continue
        outcome = batch.outcomes[place]
        batch.reject(place, raw, Reason.QUOTA_EXCEEDED, refused[raw.user])
        if raw.kind is not Kind.MESSAGE:
            batch.outcomes[place] = outcome
            unretained.add(place)
    return unretained


def _number_copies(batch: Batch, queued: dict[int, tuple[int, int]]) -> None:
    """Notes the number of each copy in its session's queue. `queued`: by session, the first number that was
    given in this batch, and how many."""
    given: dict[int, int] = dict.fromkeys(queued, 0)
    for place in batch.kept:
        kept, outcome = batch.items[place].raw.kept, batch.outcomes[place]
        if kept is None or outcome.status not in _ACCEPTED:
            continue
        numbers = []
        for session, _, _ in kept.copies:
            first, count = queued.get(session, (0, 0))
            place_in_queue = given.get(session, 0)
            given[session] = place_in_queue + 1
            numbers.append(first + place_in_queue if place_in_queue < count else 0)
        kept.numbers[:] = numbers


def write_behind(cursor: psycopg.Cursor, works: Sequence[SessionWork], gateway: UUID) -> None:
    """For all submissions of a batch."""
    all_behind = [work.behind for work in works if work.behind]
    if progress := {each.session: each for behind in all_behind for each in behind.progress}:
        queues.progress(cursor, gateway, progress)
    if disconnected := [each for behind in all_behind for each in behind.disconnected]:
        sessions.disconnect(cursor, disconnected, gateway)
    if wills := [key for behind in all_behind for key in behind.wills]:
        sessions.delete_wills(cursor, wills)
    if published := [key for behind in all_behind for key in behind.published]:
        app_messages.mark_done(cursor, published)
    if results := {key: result for behind in all_behind for key, result in behind.results.items()}:
        app_messages.set_command_results(cursor, results)
