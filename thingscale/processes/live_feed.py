"""What became of messages, told to the pages that their users have open (docs/decisions/0012-live.md).

Sockets mark their user as watched in Valkey. Whoever stores asks `LIVE_FEED` whether that user is, and only
then hands over; a thread tells the pages four times a second what has come together. Nothing here can hold
up or fail a writer: the pages are a courtesy.
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
from thingscale.lib.clock import utc_text
from thingscale.lib.excerpts import excerpt

log = logging.getLogger(__name__)

KEY = "thingscale:watched"
MARK_SECONDS = 30  # how long a mark is good for; sockets renew it more often
TICK_SECONDS = 0.25
# Of one update to one user's pages:
MAX_NAMES = 1_000  # of channels, and of devices
MAX_MESSAGES = 50
PREVIEW = 200  # characters


class MessageEvent(NamedTuple):
    """What became of one message, committed. `value` is its JSON text, or the payload if it was rejected."""

    at: int  # microseconds since 1970 UTC
    device: str | None
    tag: str | None
    kind: str
    status: str  # stored, held, rejected, duplicate
    reason: str | None
    channel: int | None  # primary key, of a datapoint
    value: bytes
    detail: str = ""  # what is wrong with its payload, beyond the reason


class Update:
    """What the pages of one user hear next. However much is added, it stays within the limits above."""

    def __init__(self) -> None:
        self.counts = Counter({"stored": 0, "held": 0, "rejected": 0, "duplicate": 0})
        self.channels: set[int] = set()  # with new datapoints, by primary key
        self.devices: set[str] = set()
        self.messages: deque[MessageEvent] = deque(maxlen=MAX_MESSAGES)

    def add(self, counts: Mapping[str, int], messages: Iterable[MessageEvent]) -> None:
        """Messages in order; any but the last ones, and one of each device and of each channel, may be left
        out of them."""
        self.counts.update(counts)
        for event in messages:
            self.messages.append(event)
            if event.channel is not None and len(self.channels) <= MAX_NAMES:
                self.channels.add(event.channel)
            if event.device is not None and len(self.devices) <= MAX_NAMES:
                self.devices.add(event.device)

    def as_json(self) -> dict[str, Any]:
        """As the pages get it, but for channels, which are primary keys. More names than MAX_NAMES are None:
        it may be any."""
        return {
            "counts": dict(self.counts),
            "channels": _unless_too_many(self.channels),
            "devices": _unless_too_many(self.devices),
            "messages": [_line(event) for event in self.messages],
            "dropped": self.counts.total() - len(self.messages),
        }


def _unless_too_many(names: set[Any]) -> list[Any] | None:
    return sorted(names) if len(names) <= MAX_NAMES else None


def _line(event: MessageEvent) -> dict[str, Any]:
    preview = excerpt(event.value[: 4 * PREVIEW])[:PREVIEW]
    return event._asdict() | {"at": utc_text(event.at), "value": preview}


class LiveFeed:
    """The open pages, as seen by a process that stores."""

    def __init__(self) -> None:
        self.watched: frozenset[int] | None = None  # users by primary key; None: not known yet
        self._updates: dict[int, Update] = {}
        self._lock = threading.Lock()
        self._thread: WatchedThread | None = None
        self._away = False

    def start(self) -> None:
        """Once a process, however often it is called."""
        with self._lock:
            if self._thread is None:
                self._thread = WatchedThread("pages", self._run)
                self._thread.start()

    def has_listeners(self, user: int) -> bool:
        """Whether it is worth telling them; in doubt it is."""
        return self.watched is None or user in self.watched

    def publish(self, user: int, counts: Mapping[str, int], messages: Iterable[MessageEvent]) -> None:
        """As Update.add."""
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
            self._send(runner)
            self._away = False
        except Exception as error:
            self._nobody(error)

    def _send(self, runner: asyncio.Runner) -> None:
        self.watched = watched_users()
        for user, update in self._take().items():
            if user in self.watched:
                runner.run(send_update(user, update.as_json()))

    def _nobody(self, error: Exception) -> None:
        """Valkey is away: no page can be told anything."""
        self.watched = frozenset()
        self._take()
        if not self._away:
            log.warning("Open pages hear nothing until Valkey is back: %s", type(error).__name__)
        self._away = True

    def _take(self) -> dict[int, Update]:
        with self._lock:
            taken, self._updates = self._updates, {}
        return taken


LIVE_FEED = LiveFeed()


def group(user: int) -> str:
    return f"live.{user}"


async def send_update(user: int, update: dict[str, Any]) -> None:
    """To the sockets of this user only."""
    await get_channel_layer().group_send(group(user), {"type": "live.update", "update": update})


def subscribe(user: int) -> None:
    """This user has a page open."""
    now = time.time()
    with _valkey().pipeline() as commands:
        commands.zremrangebyscore(KEY, "-inf", now)
        commands.zadd(KEY, {str(user): now + MARK_SECONDS})
        commands.execute()


def watched_users() -> frozenset[int]:
    found: Any = _valkey().zrange(KEY, f"{time.time()}", "+inf", byscore=True)
    return frozenset(int(user) for user in found)


@functools.cache
def _valkey() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, **settings.LIVE_VALKEY)
