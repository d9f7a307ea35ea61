"""The rules of the accounts that send, in memory, so that a datapoint costs no query.

An account is read when it sends something for the first time, and once more after its events have changed;
and some minutes later in any case, since web processes of the release before tell nobody of their changes.
When there are too many rules, those that were read first are forgotten, by accounts.
"""

import time
from collections import deque
from collections.abc import Iterable, Set
from heapq import heappop, heappush
from itertools import islice
from random import uniform

import psycopg

from thingscale.events import rules
from thingscale.events.rules import WatchedChannel
from thingscale.lib.ids import ChannelPk
from thingscale.processes.change_notifications import EVENT_OPEN, EVENTS, Change

MAX_ENTRIES = 300_000  # accounts, rules, and what is open
READ_AGAIN_SECONDS = 60  # what was open of accounts where it was too much to know
KNOWN_SECONDS = (180.0, 300.0)  # an account: at random, so that not all are read at once
MAX_CHANGES = 10_000  # that wait for the next batch; after more, all is read again


class RuleCache:
    """For the writer's thread, except `on_change`."""

    def __init__(self) -> None:
        self.channels: dict[ChannelPk, WatchedChannel] = {}
        self._channels_of: dict[int, dict[int, ChannelPk]] = {}  # by account, then by event
        self._size = 0
        self._read_again_at = 0.0
        self._known_until: list[tuple[float, int]] = []  # a heap of accounts
        self._changes: deque[Change | None] = deque(maxlen=MAX_CHANGES)

    def on_change(self, change: Change | None) -> None:
        """In the listener's thread."""
        if change is None or len(self._changes) == MAX_CHANGES:
            self._changes.clear()
            self._changes.append(None)
        elif change[0] in {EVENTS, EVENT_OPEN}:
            self._changes.append(change)

    def load(self, connection: psycopg.Connection, accounts: Set[int]) -> None:
        """Reads what is not known of these accounts. Raises psycopg.Error."""
        while self._changes:
            self._follow(self._changes.popleft())
        if time.monotonic() >= self._read_again_at:
            self._read_again_at = time.monotonic() + READ_AGAIN_SECONDS
            self.forget({watched.account for watched in self.channels.values() if watched.may_be_open})
        while self._known_until and self._known_until[0][0] <= time.monotonic():
            self._forget(heappop(self._known_until)[1])
        missing = accounts - self._channels_of.keys() if self._channels_of else accounts
        if not missing:
            return
        if self._size > MAX_ENTRIES:
            self._size = self._count()
            if self._size > MAX_ENTRIES:
                self._make_room()
        read = rules.load(connection, rules.OF_ACCOUNTS, missing)
        now = time.monotonic()
        for account in missing:
            self._channels_of[account] = {}
            heappush(self._known_until, (now + uniform(*KNOWN_SECONDS), account))  # noqa: S311
        for channel, watched in read.items():
            self.channels[channel] = watched
            self._channels_of[watched.account] |= {rule.event: channel for rule in watched.rules.rules}
        self._size += len(missing) + sum(map(_size, read.values()))

    def watched(self, channels: Iterable[ChannelPk]) -> dict[ChannelPk, WatchedChannel]:
        """Those of the channels that have rules."""
        known = self.channels
        return {channel: known[channel] for channel in set(channels) if channel in known}

    def grow(self, matches: int) -> None:
        """So much more may be open."""
        self._size += matches

    def forget(self, accounts: Iterable[int]) -> None:
        """What is open of them may have changed without a commit."""
        for account in accounts:
            self._forget(account)

    def _follow(self, change: Change | None) -> None:
        match change:
            case None:
                self.channels.clear()
                self._channels_of.clear()
                self._known_until.clear()
                self._size = 0
            case (noun, account, name) if noun == EVENT_OPEN:
                try:
                    event, device, tag = map(int, name.split(":"))
                except ValueError:  # of a later release: to read it again is always right
                    self._forget(account)
                    return
                channel = self._channels_of.get(account, {}).get(event)
                if channel is not None:
                    self.channels[channel].note_match(event, device, tag)
                    self._size += 1
            case (_, account, _):
                self._forget(account)

    def _forget(self, account: int) -> None:
        events = self._channels_of.pop(account, None)
        if events is not None:
            self._size -= 1 + sum(_size(self.channels.pop(channel)) for channel in set(events.values()))

    def _make_room(self) -> None:
        for account in list(islice(self._channels_of, (len(self._channels_of) + 3) // 4)):
            self._forget(account)

    def _count(self) -> int:
        return len(self._channels_of) + sum(map(_size, self.channels.values()))


def _size(watched: WatchedChannel) -> int:
    return len(watched.rules.rules) + sum(map(len, watched.open.values()))
