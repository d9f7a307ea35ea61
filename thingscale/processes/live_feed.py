"""Tells the open pages of users what became of messages (docs/decisions/0012-live.md).

Sockets of open pages mark their user as watched in Valkey. A process that stores messages publishes them to
`LIVE_FEED` if the user is watched. A thread sends the pages an update four times a second. Nothing here can
delay or fail a writer.
"""

import asyncio
import functools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import redis
from channels.layers import get_channel_layer
from django.conf import settings

from thingscale.background.watched import WatchedThread
from thingscale.lib.clock import now_us, utc_text
from thingscale.lib.excerpts import excerpt
from thingscale.lib.ids import ChannelPk

log = logging.getLogger(__name__)

KEY = "thingscale:watched"
MARK_SECONDS = 30  # for which a mark is valid; sockets renew it more often
TICK_SECONDS = 0.25
# Limits of one update to the pages of one user:
MAX_NAMES = 1_000  # of channels, and of devices
MAX_MESSAGES = 50
PREVIEW = 200  # characters


class MessageEvent(NamedTuple):
    """What became of a message, after the commit. `value` is its JSON text, or the payload if it was
    rejected."""

    at: int  # microseconds since 1970 UTC
    device: str | None
    tag: str | None
    kind: str
    status: str  # stored, held, rejected, duplicate
    reason: str | None
    channel: ChannelPk | None  # of a datapoint
    value: bytes
    detail: str = ""  # what is wrong with its payload, in addition to the reason


class Update:
    """The next update to the pages of a user. However much is added, it stays within the limits above."""

    def __init__(self) -> None:
        self.counts = Counter({"stored": 0, "held": 0, "rejected": 0, "duplicate": 0})
        self.channels: set[int] = set()  # with new datapoints, by primary key
        self.devices: set[str] = set()
        self.messages: deque[MessageEvent] = deque(maxlen=MAX_MESSAGES)

    def add(self, counts: Mapping[str, int], messages: Iterable[MessageEvent]) -> None:
        """`messages` are in order. The caller may leave out all but the last ones, if each device and each
        channel still has one."""
        self.counts.update(counts)
        for event in messages:
            self.messages.append(event)
            if event.channel is not None and len(self.channels) <= MAX_NAMES:
                self.channels.add(event.channel)
            if event.device is not None and len(self.devices) <= MAX_NAMES:
                self.devices.add(event.device)

    def as_json(self) -> dict[str, Any]:
        """As the pages get it, except that channels are primary keys. If there are more than MAX_NAMES
        channels or devices, their list is None, which stands for all."""
        return {
            "counts": dict(self.counts),
            "channels": _unless_too_many(self.channels),
            "devices": _unless_too_many(self.devices),
            "messages": [
                event._asdict()
                | {"at": utc_text(event.at), "value": excerpt(event.value[: 4 * PREVIEW])[:PREVIEW]}
                for event in self.messages
            ],
            "dropped": self.counts.total() - len(self.messages),
        }


def _unless_too_many(names: set[Any]) -> list[Any] | None:
    return sorted(names) if len(names) <= MAX_NAMES else None


class LiveFeed:
    """The open pages, for a process that stores messages."""

    def __init__(self) -> None:
        self.watched: frozenset[int] | None = None  # users by primary key; None: not known yet
        self._updates: dict[int, Update] = {}
        self._lock = threading.Lock()
        self._thread: WatchedThread | None = None
        self._away = False

    def start(self) -> None:
        """Starts the thread once in a process, however often this is called."""
        with self._lock:
            if self._thread is None:
                self._thread = WatchedThread("pages", self._run)
                self._thread.start()

    def has_listeners(self, user: int) -> bool:
        """Whether the user has a page open; also True while that is not known."""
        return self.watched is None or user in self.watched

    def publish(self, user: int, counts: Mapping[str, int], messages: Iterable[MessageEvent]) -> None:
        """See Update.add."""
        self.start()
        with self._lock:
            self._updates.setdefault(user, Update()).add(counts, messages)

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            while True:
                self.round(runner)
                time.sleep(TICK_SECONDS)

    def round(self, runner: asyncio.Runner) -> None:
        try:
            self.watched = watched_users()
            for user, update in self._take_updates().items():
                if user in self.watched:
                    runner.run(send_update(user, update.as_json()))
            self._away = False
        except Exception as error:  # Valkey is away: no page can get anything
            self.watched = frozenset()
            self._take_updates()
            if not self._away:
                log.warning("Open pages hear nothing until Valkey is back: %s", type(error).__name__)
            self._away = True

    def _take_updates(self) -> dict[int, Update]:
        with self._lock:
            taken, self._updates = self._updates, {}
        return taken


LIVE_FEED = LiveFeed()


def group(user: int) -> str:
    return f"live.{user}"


async def send_update(user: int, update: dict[str, Any]) -> None:
    """Sends it to the sockets of this user only."""
    await get_channel_layer().group_send(group(user), {"type": "live.update", "update": update})


def subscribe(user: int) -> None:
    """Marks the user as watched. Called for each open page, again and again."""
    now = now_us() / 1e6
    with _valkey().pipeline() as commands:
        commands.zremrangebyscore(KEY, "-inf", now)
        commands.zadd(KEY, {str(user): now + MARK_SECONDS})
        commands.execute()


def watched_users() -> frozenset[int]:
    found: Any = _valkey().zrange(KEY, f"{now_us() / 1e6}", "+inf", byscore=True)
    return frozenset(int(user) for user in found)


@functools.cache
def _valkey() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, **settings.LIVE_VALKEY)
