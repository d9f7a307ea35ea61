"""The rules of events by channel, as the database has them, and for which devices and tags they are open."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, field

import psycopg

from thingscale.events.channel_rules import ChannelRules
from thingscale.events.evaluate import Rule
from thingscale.lib.ids import ChannelPk, UserPk

log = logging.getLogger(__name__)

MAX_OPEN = 50_000  # that are read at once, and places of a channel
_RULES = """SELECT e.user_id, e.mapped_channel_id, e.id, e.kind, e.source, e.operator, e.threshold, e.clear,
    e."window", e.period, e.devices
FROM events_event e
WHERE e.{by} = ANY (%s) AND e.enabled AND e.mapped_channel_id IS NOT NULL AND e.kind <> 'silence'
ORDER BY e.id"""
OF_ACCOUNTS, OF_CHANNELS = _RULES.format(by="user_id"), _RULES.format(by="mapped_channel_id")
_OPEN = """SELECT event_id, device, tag FROM events_condition WHERE event_id = ANY (%s) AND state <> 'ok'
UNION SELECT event, device, tag FROM events_observation WHERE event = ANY (%s) AND what = 1
LIMIT %s"""

Place = tuple[int, int]  # device and tag, by primary key; 0: none


@dataclass(slots=True)
class WatchedChannel:
    """A channel that has rules. An event is open for a place from a match until it was cleared: only then a
    datapoint that does not match is of interest."""

    account: UserPk
    rules: ChannelRules
    open: dict[Place, set[int]] = field(default_factory=dict)  # events
    # There are too many to know them all: the database is asked about each.
    may_be_open: bool = False

    def note_match(self, event: int, device: int, tag: int) -> None:
        if self.may_be_open:
            return
        self.open.setdefault((device, tag), set()).add(event)
        if len(self.open) > MAX_OPEN:
            self.open, self.may_be_open = {}, True

    def note_end(self, event: int, device: int, tag: int) -> bool:
        """Whether it was open."""
        events = self.open.get((device, tag))
        if not events or event not in events:
            return False
        events.discard(event)
        if not events:
            del self.open[device, tag]
        return True


def load(
    connection: psycopg.Connection | psycopg.Cursor, which: str, keys: Collection[int]
) -> dict[ChannelPk, WatchedChannel]:
    """`which`: OF_ACCOUNTS or OF_CHANNELS, with their primary keys."""
    rules: dict[tuple[ChannelPk, UserPk], list[Rule]] = {}
    channel_of: dict[int, ChannelPk] = {}
    for (
        account,
        channel,
        event,
        kind,
        source,
        operator,
        threshold,
        clear,
        window,
        period,
        devices,
    ) in connection.execute(which, [list(keys)]):
        try:
            rule = Rule.of(
                *(event, kind, source, operator, threshold),
                clear=clear,
                window=window,
                period=period,
                devices=devices,
            )
        except ValueError:  # it lacks something, and does nothing
            continue
        rules.setdefault((channel, account), []).append(rule)
        channel_of[event] = channel
    found = {
        channel: WatchedChannel(account, ChannelRules(of_channel))
        for (channel, account), of_channel in rules.items()
    }
    if found:
        events = list(channel_of)
        rows = connection.execute(_OPEN, [events, events, MAX_OPEN + 1]).fetchall()
        for event, device, tag in rows[:MAX_OPEN]:
            found[channel_of[event]].open.setdefault((device, tag), set()).add(event)
        if len(rows) > MAX_OPEN:
            for watched in found.values():
                watched.open, watched.may_be_open = {}, True
    return found
