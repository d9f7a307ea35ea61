"""What the connected clients of an account want to get from other gateways. Pure."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from ingest.gateway.subscriptions import Subscribed

if TYPE_CHECKING:
    from ingest.gateway.client import Client

AT_QOS_0: Final = 1  # of a filter: what is published at QoS 0 only; the rest is in the queues of sessions
ALL: Final = 2

Key = tuple[str, str] | tuple[int]  # group and filter; or a session that lasts, whose client is connected
# Value: of a filter as above; of a filter with a group, how many members it has here whose sessions do not
# last; of a session 1. 0: there is nothing any more.


class Interest:
    """`changed` is told what is different from before."""

    def __init__(self, changed: Callable[[Key, int], None] = lambda key, value: None) -> None:
        self.changed = changed
        self.sessions: dict[int, Client] = {}
        self._counts: dict[tuple[str, str], list[int]] = {}  # subscriptions: to all, and at QoS 0

    def items(self) -> Iterator[tuple[Key, int]]:
        for key, (to_all, at_qos_0) in self._counts.items():
            if value := _value(key[0], to_all, at_qos_0):
                yield key, value
        for session in self.sessions:
            yield (session,), 1

    def add(self, group: str, filter_: str, session: int, qos: int) -> None:
        self._count(group, filter_, session, qos, 1)

    def remove(self, group: str, filter_: str, session: int, qos: int) -> None:
        """As it was added."""
        self._count(group, filter_, session, qos, -1)

    def came(self, session: int, client: "Client", subscriptions: Iterable[Subscribed]) -> None:
        if session:
            self.sessions[session] = client
            self.changed((session,), 1)
        for group, filter_, subscription, _ in subscriptions:
            self.add(group, filter_, session, subscription.qos)

    def left(self, session: int, subscriptions: Iterable[Subscribed]) -> None:
        if self.sessions.pop(session, None):
            self.changed((session,), 0)
        for group, filter_, subscription, _ in subscriptions:
            self.remove(group, filter_, session, subscription.qos)

    def _count(self, group: str, filter_: str, session: int, qos: int, more: int) -> None:
        key = group, filter_
        counts = self._counts.setdefault(key, [0, 0])
        before = _value(group, *counts)
        counts[bool(session and (qos or group))] += more
        now = _value(group, *counts)
        if not any(counts):
            del self._counts[key]
        if now != before:
            self.changed(key, now)


def _value(group: str, to_all: int, at_qos_0: int) -> int:
    if group:
        return to_all
    if to_all:
        return ALL
    return AT_QOS_0 if at_qos_0 else 0
