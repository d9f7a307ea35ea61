"""What the connected clients of one account at this gateway want to get from other gateways. Pure."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from ingest.gateway.subscriptions import Subscribed

if TYPE_CHECKING:
    from ingest.gateway.client import Client

# What is wanted of a filter without a group. Durable sessions get the rest from their queues.
QOS_0_ONLY: Final = 1
ALL: Final = 2

# Either a group ("" if there is none) and a filter, or a durable session whose client is connected here. Its
# value is for a filter one of the two above, for a filter with a group the number of its members here whose
# sessions are not durable, for a session 1. The value 0 says that it is not wanted any more.
Key = tuple[str, str] | tuple[int]


class LocalSubscriptions:
    """`on_change` gets each key whose value changes, and the new value."""

    def __init__(self, on_change: Callable[[Key, int], None] = lambda key, value: None) -> None:
        self.on_change = on_change
        self.sessions: dict[int, Client] = {}
        self._counts: dict[tuple[str, str], list[int]] = {}  # subscriptions: to all, and at QoS 0 only

    def items(self) -> Iterator[tuple[Key, int]]:
        for key, (to_all, qos_0_only) in self._counts.items():
            if value := _value(key[0], to_all, qos_0_only):
                yield key, value
        for session in self.sessions:
            yield (session,), 1

    def add(self, group: str, filter_: str, session: int, qos: int) -> None:
        self._count(group, filter_, session, qos, 1)

    def remove(self, group: str, filter_: str, session: int, qos: int) -> None:
        """The arguments have to be those of `add`."""
        self._count(group, filter_, session, qos, -1)

    def connected(self, session: int, client: "Client", subscriptions: Iterable[Subscribed]) -> None:
        if session:
            self.sessions[session] = client
            self.on_change((session,), 1)
        for group, filter_, subscription, _ in subscriptions:
            self.add(group, filter_, session, subscription.qos)

    def disconnected(self, session: int, subscriptions: Iterable[Subscribed]) -> None:
        if self.sessions.pop(session, None):
            self.on_change((session,), 0)
        for group, filter_, subscription, _ in subscriptions:
            self.remove(group, filter_, session, subscription.qos)

    def _count(self, group: str, filter_: str, session: int, qos: int, change: int) -> None:
        key = group, filter_
        counts = self._counts.setdefault(key, [0, 0])
        before = _value(group, *counts)
        counts[bool(session and (qos or group))] += change
        value = _value(group, *counts)
        if not any(counts):
            del self._counts[key]
        if value != before:
            self.on_change(key, value)


def _value(group: str, to_all: int, qos_0_only: int) -> int:
    if group:
        return to_all
    if to_all:
        return ALL
    return QOS_0_ONLY if qos_0_only else 0
