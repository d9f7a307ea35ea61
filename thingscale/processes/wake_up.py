"""Wakes the threads of other processes that wait for work, through Valkey, so that they look at once and not
only a second later. A signal may be lost, and then costs that second: whoever waits looks by itself, too.
"""

import logging
import threading
import time
from typing import Any

import redis
from django.conf import settings

from thingscale.background.watched import WatchedThread

log = logging.getLogger(__name__)

OBSERVATIONS = "thingscale:observations"  # were stored: the states of events follow
DELIVERIES = "thingscale:deliveries"  # are due


class WakeUp:
    """The side that signals, once in a process."""

    def __init__(self) -> None:
        self._wanted: set[str] = set()
        self._signal = threading.Event()
        self._lock = threading.Lock()
        self._thread: WatchedThread | None = None
        self._away = False

    def events(self) -> None:
        """After the commit of observations. It never waits and never fails; many calls are one signal."""
        self._want(OBSERVATIONS)

    def deliveries(self) -> None:
        """After the commit of deliveries, in the same way."""
        self._want(DELIVERIES)

    def _want(self, channel: str) -> None:
        with self._lock:
            self._wanted.add(channel)
            if self._thread is None:
                self._thread = WatchedThread("wake-up", self._run)
                self._thread.start()
        self._signal.set()

    def _run(self) -> None:
        valkey = redis.Redis.from_url(settings.REDIS_URL, **settings.LIVE_VALKEY)
        while True:
            self._signal.wait()
            self._signal.clear()
            with self._lock:
                channels, self._wanted = self._wanted, set()
            try:
                for channel in channels:
                    valkey.publish(channel, "")
                self._away = False
            except (redis.RedisError, OSError) as error:
                if not self._away:
                    log.warning("Nobody is woken until Valkey is back: %s", type(error).__name__)
                self._away = True


WAKE_UP = WakeUp()


class Sleeper:
    """The side that waits, for one thread. Without Valkey, it waits for the time limit only."""

    def __init__(self, channel: str, stopping: threading.Event) -> None:
        self._channel = channel
        self._stopping = stopping
        self._valkey = redis.Redis.from_url(settings.REDIS_URL, **settings.LIVE_VALKEY)
        self._listening: Any = None  # a PubSub, while Valkey answers
        self._away = False

    def listen(self, seconds: float) -> None:
        """Returns at a signal, and at the latest after so many seconds. Signals that came since the last call
        count, so nothing is missed between a look and the wait after it."""
        until = time.monotonic() + seconds
        try:
            if self._listening is None:
                listening: Any = self._valkey.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
                listening.subscribe(self._channel)
                self._listening = listening
            while not self._stopping.is_set() and (left := until - time.monotonic()) > 0:
                if self._listening.get_message(timeout=left):
                    while self._listening.get_message(timeout=0):  # they are one
                        pass
                    break
            self._away = False
        except (redis.RedisError, OSError) as error:
            if not self._away:
                log.warning("Work waits up to a second until Valkey is back: %s", type(error).__name__)
            self._away = True
            self.close()
            self._stopping.wait(max(until - time.monotonic(), 0))

    def close(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.close()
