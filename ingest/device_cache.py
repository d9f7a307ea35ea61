"""(user, device id) -> where its data goes, in memory, so that a message costs no query.

Entries also say no: a disabled device is answered without a query. A device whose messages are held has
no entry, since holding has to look at it under a lock. NOTIFY removes the entries of the
account that changed (thingscale/processes/change_notifications.py).
When there are too many, the account with the most of them loses some.
"""

import threading
from collections.abc import Mapping
from typing import NamedTuple

from thingscale.lib.fair_cache import FairCache
from thingscale.lib.ids import ChannelPk, DevicePk, TagPk
from thingscale.processes.change_notifications import AMONG_GATEWAYS, EVENT_OPEN, EVENTS, INTAKES, Change

MAX_ENTRIES = 500_000  # devices, and as many tags
_OF_NO_DEVICE = AMONG_GATEWAYS | {EVENTS, EVENT_OPEN, INTAKES}
DeviceKey = tuple[int, str]  # user's primary key, device id
TagKey = tuple[ChannelPk, str]


class DeviceRoute(NamedTuple):
    device: DevicePk
    channel: ChannelPk | None  # None: disabled


class DeviceCache:
    """Written by the writer thread, invalidated by the listener's."""

    def __init__(self) -> None:
        self.devices: FairCache[str, DeviceRoute] = FairCache(MAX_ENTRIES)
        self.tags: FairCache[TagKey, TagPk] = FairCache(MAX_ENTRIES)
        self._lock = threading.Lock()
        self.generation = 0  # of changes; to be read before a query whose result is to be stored

    def store(
        self,
        generation: int,
        devices: Mapping[DeviceKey, DeviceRoute],
        tags: Mapping[int, Mapping[TagKey, TagPk]],
    ) -> None:
        """Stores what a committed transaction saw, unless something has changed since `generation`. `tags`:
        by the user's primary key."""
        by_user: dict[int, dict[str, DeviceRoute]] = {}
        for (user, device_id), route in devices.items():
            by_user.setdefault(user, {})[device_id] = route
        with self._lock:
            if generation != self.generation:
                return
            for user, routes in by_user.items():
                self.devices.update(user, routes)
            for user, keys in tags.items():
                self.tags.update(user, keys)

    def accounts_of_devices(self) -> dict[int, int]:
        """By primary keys, of the devices that are known. Takes a while."""
        with self._lock:
            return {
                route.device: user
                for user, routes in self.devices.accounts.items()
                for route in routes.values()
            }

    def on_change(self, change: Change | None) -> None:
        if change and change[0] in _OF_NO_DEVICE:
            return
        with self._lock:
            self.generation += 1
            match change:
                case ("device", user, device_id):
                    self.devices.forget(user, device_id)
                case ("tokens" | "limits", _, _):
                    pass
                case (_, user, _):
                    self.devices.forget_account(user)
                    self.tags.forget_account(user)
                case None:
                    self.devices.clear()
                    self.tags.clear()
