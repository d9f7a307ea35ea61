"""Writes what events see in datapoints, in the transaction that stores these: so a notification is owed for
exactly what is stored. Each door comes here: ingest's writer, REST, and held messages.

What an account can cause here is bounded: it has a budget of comparisons, and one of matches. What is over is
counted, in one row for each event. The budgets are those of a process.
"""

import logging
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import orjson
import psycopg
from django.conf import settings
from django.db import transaction

from thingscale.events.budget import Budget
from thingscale.events.channel_rules import group, suspicious
from thingscale.events.evaluate import Memory, Path, Rule
from thingscale.events.models import ConditionKey, Observation
from thingscale.events.rules import OF_CHANNELS, WatchedChannel, load
from thingscale.events.waiting import WAITING, Room
from thingscale.lib.clock import now_us
from thingscale.lib.ids import ChannelPk, DevicePk
from thingscale.processes.wake_up import WAKE_UP
from thingscale.streams.writer import Row, array

log = logging.getLogger(__name__)

PARSED_BYTES = 256 * 1024  # at a time
VALUE_BYTES = 16  # of a value, that are as much work as one rule
MEMORY_WORK = 20  # for a rule that remembers, in comparisons
_MATCHED, _CLEARED, _LEFT_OUT = Observation.What.MATCHED, Observation.What.CLEARED, Observation.What.LEFT_OUT
_INSERT = """INSERT INTO events_observation (account, event, device, tag, what, at, value, count)
SELECT account, event, device, tag, what, 'epoch'::timestamptz + at * '1 microsecond'::interval, value, count
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::int[], %s::smallint[], %s::bigint[], %s::text[],
    %s::int[])
    WITH ORDINALITY AS o (account, event, device, tag, what, at, value, count, place) ORDER BY place"""
_STILL_OPEN = """SELECT k.event, k.device, k.tag
FROM unnest(%s::bigint[], %s::bigint[], %s::int[]) AS k (event, device, tag)
WHERE EXISTS (SELECT FROM events_condition c WHERE c.event_id = k.event AND c.device = k.device
        AND c.tag = k.tag AND c.state <> 'ok')
    OR EXISTS (SELECT FROM events_observation o WHERE o.event = k.event AND o.device = k.device
        AND o.tag = k.tag AND o.what = 1)"""
_READ_MEMORIES = """SELECT m.event, m.device, m.tag, m.memory FROM events_rule_memory m
JOIN unnest(%s::bigint[], %s::bigint[], %s::int[]) AS k (event, device, tag)
    ON m.event = k.event AND m.device = k.device AND m.tag = k.tag"""
# No other transaction writes to the same channel and tag meanwhile: each has the row of its newest value.
_WRITE_MEMORIES = """INSERT INTO events_rule_memory (event, device, tag, memory)
SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::int[], %s::text[]) AS m (event, device, tag, memory)
ORDER BY event, device, tag
ON CONFLICT (event, device, tag) DO UPDATE SET memory = excluded.memory"""
_channel = itemgetter(Row._fields.index("channel"))
_at = itemgetter(Row._fields.index("at"))
_value = itemgetter(Row._fields.index("value"))


class Observed(NamedTuple):
    """A row of Observation."""

    channel: ChannelPk
    event: int
    device: int
    tag: int
    what: int
    at: int  # microseconds
    value: str = ""
    matches: int = 1  # more than one if they were left out


@dataclass(slots=True)
class Observations:
    """Of one transaction."""

    rows: list[Observed] = field(default_factory=list)
    work: Counter[int] = field(default_factory=Counter)  # by account
    matches: Counter[int] = field(default_factory=Counter)


COMPARISONS = Budget(1_000_000, 250_000)
MATCHES = Budget(20_000, 500)


def concern(rows: Sequence[Row], channels: Mapping[ChannelPk, WatchedChannel]) -> bool:
    """Whether a rule may have something to say about one of the rows."""
    rows = [row for row in rows if row[0] in channels]
    for row, value in zip(rows, _parse(rows, _join(rows)), strict=True):
        watched = channels[row[0]]
        if not watched.rules.quiet(value) or watched.may_be_open:
            return True
        if watched.open and (row.device or 0, row.tag or 0) in watched.open:
            return True
    return False


def observe(
    cursor: psycopg.Cursor,
    rows: Iterable[Row],
    channels: Mapping[ChannelPk, WatchedChannel],
    device_ids: Mapping[DevicePk, str],
) -> Observations:
    """Compares rows that this transaction has just stored, and writes what is seen."""
    observer = Observer()
    observer.compare(rows, channels, lambda: device_ids)
    return observer.write(cursor)


def settle(observations: Observations) -> None:
    """After the commit."""
    now = time.monotonic()
    for account, count in observations.work.items():
        COMPARISONS.take(account, count, now)
    for account, count in observations.matches.items():
        MATCHES.take(account, count, now)


class Observer:
    """Sees what one transaction stores. `compare` needs no database, so it may be called while PostgreSQL
    takes the same rows; `write` comes once they are stored. After the commit, `settle` is to be called."""

    def __init__(self) -> None:
        self._found = Observations()
        self._channels: Mapping[ChannelPk, WatchedChannel] = {}
        self._device_ids: Mapping[DevicePk, str] = {}
        self._remembering: Sequence[Row] = ()  # rows to be compared with what rules remember
        self._started = time.monotonic()
        self._now = now_us()
        self._comparisons_left: dict[int, int] = {}  # by account
        self._matches_left: dict[int, int] = {}
        self._closed: set[ConditionKey] = set()
        self._left_out: dict[tuple[ChannelPk, int], tuple[int, int]] = {}  # count and time, by event
        self._memories: dict[ConditionKey, Memory] = {}
        self._dropped = False  # something, since too much waits

    def compare(
        self,
        rows: Iterable[Row],
        channels: Mapping[ChannelPk, WatchedChannel],
        device_ids: Callable[[], Mapping[DevicePk, str]],
    ) -> None:
        """Once. What is open changes at once, in `channels`: without a commit, these are not right any more.
        `device_ids`: of the rows' devices, for rules that watch some."""
        self._channels = channels
        since = self._now - settings.EVENT_LATE_SECONDS * 1_000_000
        rows = sorted([row for row in rows if row[0] in channels], key=_at)
        rows = rows[bisect_left(rows, since, key=_at) :]
        if not rows:
            return
        if any(each.rules.of_some_devices for each in channels.values()):
            self._device_ids = device_ids()
        if any(each.rules.remembering for each in channels.values()):
            self._remembering = rows
        else:
            self._compare(rows, None)

    def write(self, cursor: psycopg.Cursor) -> Observations:
        if self._remembering:
            self._compare(self._remembering, cursor)
        if self._found.rows:
            self._forget_what_is_not_open(cursor)
        if self._found.rows:
            _insert(cursor, self._found.rows, self._channels)
        if self._found.rows or self._dropped:
            WAITING.look(cursor, [self._channels[row.channel].account for row in self._found.rows])
        return self._found

    def _compare(self, rows: Sequence[Row], cursor: psycopg.Cursor | None) -> None:
        try:
            self._compare_all(rows, cursor)
        except psycopg.Error:
            raise
        except Exception:  # else what is stored would wait until this is mended
            log.exception("%d datapoints were not compared with their events", len(rows))
            self._found.rows.clear()

    def _compare_all(self, rows: Sequence[Row], cursor: psycopg.Cursor | None) -> None:
        """`rows` are in the order of their times."""
        channels = self._channels
        for chunk, text in _chunks(rows):
            if cursor:
                self._read_memories(cursor, chunk)
            values = _parse(chunk, text)
            loud = self._loud(chunk, values, text)
            # Where a datapoint can have something to match or to clear.
            alive = {chunk[place][0] for place in loud}
            alive.update([channel for channel, watched in channels.items() if watched.open])
            for place in [place for place, row in enumerate(chunk) if row[0] in alive] if alive else ():
                row = chunk[place]
                watched = channels[row[0]]
                if place in loud:
                    self._look_at(row, values[place], watched, watched.rules.by_path)
                elif watched.open and (events := watched.open.get((row[2] or 0, row[3] or 0))):
                    # It matches nothing, so it can only clear.
                    by_event = watched.rules.by_event
                    self._look_at(
                        row, values[place], watched, group(map(by_event.__getitem__, sorted(events)))
                    )
            if cursor:
                self._write_memories(cursor)
        for (channel, event), (count, at) in self._left_out.items():
            self._found.rows.append(Observed(channel, event, 0, 0, _LEFT_OUT, at, matches=count))

    def _loud(self, rows: Sequence[Row], values: Sequence[Any], text: bytes) -> set[int]:
        """Places of what may match. `text`: of all values."""
        channels = self._channels
        found = suspicious(values, text, [watched.rules for watched in channels.values()])
        if found is not None and (
            one_by_one := {
                channel for channel, each in channels.items() if each.may_be_open or each.rules.never_quiet
            }
        ):
            found.update([place for place, row in enumerate(rows) if row[0] in one_by_one])
        return {
            place
            for place in (range(len(rows)) if found is None else found)
            if (watched := channels[rows[place][0]]).may_be_open or not watched.rules.quiet(values[place])
        }

    def _look_at(
        self, row: Row, value: Any, watched: WatchedChannel, by_path: Iterable[tuple[Path, Sequence[Rule]]]
    ) -> None:
        device, tag = row.device, row.tag
        work = 1 + len(row.value) // VALUE_BYTES  # of a rule
        device_id = self._device_ids.get(device, "") if device is not None else ""
        place = device or 0, tag or 0
        open_here = watched.open.get(place, ())
        for path, rules in by_path:
            if not self._afford(watched.account, len(rules) * work):
                for rule in rules:
                    self._leave_out(row, rule)
                continue
            compared = path.find(value)
            # A number needs no look by rules that it can neither match nor clear.
            number = compared[0] if len(compared) == 1 and type(compared[0]) in {int, float} else None
            for rule in rules:
                if (
                    number is not None
                    and rule.event not in open_here
                    and not watched.may_be_open
                    and rule.is_quiet(number)
                ):
                    continue
                if rule.devices and not rule.watches(device_id):
                    continue
                if compared or rule.remembers:
                    self._judge(row, rule, compared, (rule.event, *place), watched)

    def _judge(
        self, row: Row, rule: Rule, compared: list[Any], key: ConditionKey, watched: WatchedChannel
    ) -> None:
        memory = self._memories.get(key)
        # The elements of an array are compared by each rule.
        affordable = len(compared) < 2 or self._afford(watched.account, len(compared))
        if not affordable or (rule.remembers and memory is None):
            self._leave_out(row, rule)
            return
        try:
            # A clock that is ahead must not make all that follows late.
            seen = rule.judge(compared, min(row.at, self._now), memory)
        except Exception:  # an event must not keep datapoints from being stored
            log.exception("Event %d could not be compared", rule.event)
            return
        if seen is None:
            return
        if room := WAITING.room(watched.account):
            is_open = key[0] in watched.open.get(key[1:], ())
            none = room is Room.NONE
            if (is_open or none) if seen.matched else (none and (is_open or watched.may_be_open)):
                self._drop()
                return
        if seen.matched:
            if not self._may_match(watched.account):
                self._leave_out(row, rule)
                return
            watched.note_match(*key)
            self._closed.discard(key)
        elif watched.note_end(*key) or (watched.may_be_open and key not in self._closed):
            self._closed.add(key)
        else:
            return
        what = _MATCHED if seen.matched else _CLEARED
        self._found.rows.append(Observed(row.channel, *key, what, row.at, seen.value))

    def _afford(self, account: int, work: int) -> bool:
        left = self._comparisons_left.get(account)
        if left is None:
            left = COMPARISONS.left(account, self._started)
        if left < work:
            return False
        self._comparisons_left[account] = left - work
        self._found.work[account] += work
        return True

    def _may_match(self, account: int) -> bool:
        left = self._matches_left.get(account)
        if left is None:
            left = MATCHES.left(account, self._started)
        if left <= 0:
            return False
        self._matches_left[account] = left - 1
        self._found.matches[account] += 1
        return True

    def _drop(self) -> None:
        WAITING.drop()
        self._dropped = True

    def _leave_out(self, row: Row, rule: Rule) -> None:
        if WAITING.room(self._channels[row.channel].account):
            self._drop()
            return
        count, at = self._left_out.get((row.channel, rule.event), (0, 0))
        self._left_out[row.channel, rule.event] = count + 1, max(at, row.at)

    def _read_memories(self, cursor: psycopg.Cursor, rows: Sequence[Row]) -> None:
        """Of what the account can afford."""
        keys: set[ConditionKey] = set()
        for row in rows:
            watched = self._channels[row.channel]
            remembering = watched.rules.remembering
            if remembering and self._afford(watched.account, MEMORY_WORK * len(remembering)):
                keys.update((rule.event, row.device or 0, row.tag or 0) for rule in remembering)
        if not keys:
            return
        cursor.execute(_READ_MEMORIES, list(map(array, zip(*keys, strict=True))))
        self._memories = {key: Memory() for key in keys}
        for event, device, tag, text in cursor.fetchall():
            self._memories[event, device, tag] = Memory.load(text)

    def _write_memories(self, cursor: psycopg.Cursor) -> None:
        memories, self._memories = self._memories, {}
        known = [(key, memory) for key, memory in memories.items() if memory.rule]
        if known:
            columns = map(array, zip(*(key for key, _ in known), strict=True))
            cursor.execute(_WRITE_MEMORIES, [*columns, [memory.dump().decode() for _, memory in known]])

    def _forget_what_is_not_open(self, cursor: psycopg.Cursor) -> None:
        """Where it is not known what is open, the database says it."""
        rows, channels = self._found.rows, self._channels
        asked = [
            (row.event, row.device, row.tag)
            for row in rows
            if row.what == _CLEARED and channels[row.channel].may_be_open
        ]
        if not asked:
            return
        matched = {(row.event, row.device, row.tag) for row in rows if row.what == _MATCHED}
        cursor.execute(_STILL_OPEN, list(map(array, zip(*asked, strict=True))))
        still = matched | set(cursor.fetchall())
        self._found.rows = [
            row
            for row in rows
            if row.what != _CLEARED
            or not channels[row.channel].may_be_open
            or (row.event, row.device, row.tag) in still
        ]


def _chunks(rows: Sequence[Row]) -> Iterator[tuple[Sequence[Row], bytes]]:
    """So small that their values, parsed, fit into memory. Each with the text of its values."""
    text = _join(rows)
    if len(text) <= PARSED_BYTES:
        yield rows, text
        return
    start = size = 0
    for place, row in enumerate(rows):
        if place > start and size + len(row.value) > PARSED_BYTES:
            yield rows[start:place], _join(rows[start:place])
            start, size = place, 0
        size += len(row.value)
    yield rows[start:], _join(rows[start:])


def _join(rows: Sequence[Row]) -> bytes:
    return b",".join(map(_value, rows))


def _parse(rows: Sequence[Row], text: bytes) -> list[Any]:
    """The values. What this parser does not take, and PostgreSQL does, is compared with nothing."""
    try:
        return orjson.loads(b"[%s]" % text)  # type: ignore[no-any-return]
    except orjson.JSONDecodeError:
        return [_parse_one(row.value) for row in rows]


def _parse_one(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return None


def _insert(
    cursor: psycopg.Cursor, rows: Sequence[Observed], channels: Mapping[ChannelPk, WatchedChannel]
) -> None:
    of, events, devices, tags, what, times, values, counts = zip(*rows, strict=True)
    numbers = ([channels[each].account for each in of], events, devices, tags, what, times)
    cursor.execute(_INSERT, [*map(array, numbers), list(values), array(counts)])


def observe_stored(
    cursor: psycopg.Cursor,
    channels: Collection[ChannelPk],
    rows: Callable[[], Iterable[Row]],
    device_ids: Mapping[DevicePk, str],
) -> None:
    """For doors of Django: in its transaction, after the datapoints were written. What the channels have of
    rules is asked of the database."""
    watched = load(cursor, OF_CHANNELS, channels)
    if not watched:
        return
    found = observe(cursor, rows(), watched, device_ids)
    if found.work:
        transaction.on_commit(partial(settle, found), robust=True)
    if found.rows:
        transaction.on_commit(WAKE_UP.events, robust=True)
