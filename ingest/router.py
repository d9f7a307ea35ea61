"""(user, device id) -> where its data goes, in memory, so that a message costs no query.

Entries also say no: a disabled device is answered without a query. A device whose messages are held has
no entry, since holding has to look at it under a lock. NOTIFY removes entries (thingscale/invalidation.py).
"""

import threading
from typing import NamedTuple

from thingscale.invalidation import Change

MAX_ENTRIES = 1_000_000
DeviceKey = tuple[int, str]  # user's primary key, device id
TagKey = tuple[int, str]  # channel's primary key, tag


class Route(NamedTuple):
    device: int
    channel: int | None  # None: disabled


class Router:
    """Written by the writer thread, invalidated by the listener's."""

    def __init__(self) -> None:
        self.devices: dict[DeviceKey, Route] = {}
        self.tags: dict[TagKey, int] = {}
        self._lock = threading.Lock()
        self._generation = 0

    @property
    def generation(self) -> int:
        """To be read before a query whose result is to be learned."""
        return self._generation

    def learn(self, generation: int, devices: dict[DeviceKey, Route], tags: dict[TagKey, int]) -> None:
        """Keeps what a committed transaction saw, unless something changed since the generation."""
        with self._lock:
            if generation != self._generation:
                return
            if len(self.devices) + len(self.tags) > MAX_ENTRIES:
                self._forget_all()
            self.devices.update(devices)
            self.tags.update(tags)

    def on_change(self, change: Change | None) -> None:
        with self._lock:
            self._generation += 1
            match change:
                case ("device", user, device_id):
                    self.devices.pop((user, device_id), None)
                case ("tokens", _, _):
                    pass
                case _:
                    self._forget_all()

    def _forget_all(self) -> None:
        self.devices.clear()
        self.tags.clear()
