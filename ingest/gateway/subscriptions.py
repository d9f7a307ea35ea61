"""Who subscribes to what, of one account. Pure. Filters and topics are without the token, so that no level has
a special meaning."""

from collections.abc import Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

from ingest.mqtt.packets import Subscription

MAX_CACHED = 10_000  # topics
S = TypeVar("S", bound=Hashable)


class Match(NamedTuple, Generic[S]):
    """What one subscriber gets of a message: once, however many of its filters match."""

    subscriber: S
    qos: int
    retain_as_published: bool
    no_local: bool
    identifiers: tuple[int, ...]


class Level(Generic[S]):
    __slots__ = ("below", "here", "rest")

    def __init__(self) -> None:
        self.below: dict[str, Level[S]] | None = None
        self.here: dict[S, tuple[Subscription, int]] | None = None
        self.rest: dict[S, tuple[Subscription, int]] | None = None  # "#"

    @property
    def empty(self) -> bool:
        return not (self.below or self.here or self.rest)


class SubscriptionTree(Generic[S]):
    def __init__(self) -> None:
        self._root: Level[S] = Level()
        self._filters: dict[S, dict[tuple[str, str], tuple[Subscription, int]]] = {}
        self._groups: dict[tuple[str, str], dict[S, Match[S]]] = {}
        self._cache: dict[str, Sequence[Match[S]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._filters.values()))

    def filters(self, subscriber: S) -> list[tuple[str, str, Subscription, int]]:
        return [(group, f, *given) for (group, f), given in self._filters.get(subscriber, {}).items()]

    def subscribe(
        self, subscriber: S, filter: str, subscription: Subscription, identifier: int = 0, group: str = ""
    ) -> bool:
        """Whether it is a new one."""
        mine = self._filters.setdefault(subscriber, {})
        new = (group, filter) not in mine
        mine[group, filter] = subscription, identifier
        if group:
            identifiers = (identifier,) if identifier else ()
            match = Match(subscriber, subscription.qos, subscription.retain_as_published, False, identifiers)
            self._groups.setdefault((group, filter), {})[subscriber] = match
        else:
            self._cache.clear()
            self._place(filter, create=True)[subscriber] = subscription, identifier
        return new

    def unsubscribe(self, subscriber: S, filter: str, group: str = "") -> bool:
        """Whether it was there."""
        mine = self._filters.get(subscriber)
        if not mine or mine.pop((group, filter), None) is None:
            return False
        if not mine:
            del self._filters[subscriber]
        if group:
            members = self._groups[group, filter]
            del members[subscriber]
            if not members:
                del self._groups[group, filter]
        else:
            self._cache.clear()
            del self._place(filter)[subscriber]
            self._prune(self._root, filter.split("/"))
        return True

    def remove(self, subscriber: S) -> None:
        for group, filter_ in list(self._filters.get(subscriber, ())):
            self.unsubscribe(subscriber, filter_, group)

    def match(self, topic: str) -> Sequence[Match[S]]:
        found = self._cache.get(topic)
        if found is None:
            found = self._find(topic)
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[topic] = found
        return found

    def shared(self, topic: str) -> list[list[Match[S]]]:
        """The members of each group that the message is for, whose turn it is first."""
        if not self._groups:
            return []
        found = []
        levels = topic.split("/")
        for (_, filter_), members in self._groups.items():
            if _matches(filter_.split("/"), levels):
                found.append(list(members.values()))
                first = next(iter(members))
                members[first] = members.pop(first)  # the last one, next time
        return found

    def _place(self, filter_: str, create: bool = False) -> dict[S, tuple[Subscription, int]]:
        level = self._root
        names = filter_.split("/")
        rest = names[-1] == "#"
        for name in names[:-1] if rest else names:
            if create:
                level.below = level.below or {}
                level = level.below.setdefault(name, Level())
            else:
                assert level.below
                level = level.below[name]
        if rest:
            level.rest = level.rest if level.rest is not None else {}
            return level.rest
        level.here = level.here if level.here is not None else {}
        return level.here

    def _prune(self, level: Level[S], names: list[str]) -> None:
        if not names or names[0] == "#" or not level.below:
            return
        below = level.below.get(names[0])
        if below:
            self._prune(below, names[1:])
            if below.empty:
                del level.below[names[0]]

    def _find(self, topic: str) -> Sequence[Match[S]]:
        found: dict[S, Match[S]] = {}
        levels: list[Level[S]] = [self._root]
        names = topic.split("/")
        for name in names:
            following = []
            for level in levels:
                if level.rest:
                    _merge(found, level.rest)
                if level.below:
                    following += [below for key in (name, "+") if (below := level.below.get(key))]
            levels = following
        for level in levels:
            for subscribers in (level.here, level.rest):
                if subscribers:
                    _merge(found, subscribers)
        return tuple(found.values())


def _merge(found: dict[S, Match[S]], subscribers: dict[S, tuple[Subscription, int]]) -> None:
    for subscriber, (subscription, identifier) in subscribers.items():
        before = found.get(subscriber)
        identifiers = (identifier,) if identifier else ()
        if before is None:
            found[subscriber] = Match(
                subscriber,
                subscription.qos,
                subscription.retain_as_published,
                subscription.no_local,
                identifiers,
            )
        else:
            found[subscriber] = Match(
                subscriber,
                max(before.qos, subscription.qos),
                before.retain_as_published or subscription.retain_as_published,
                before.no_local and subscription.no_local,
                before.identifiers + identifiers,
            )


def _matches(filter_: list[str], levels: list[str]) -> bool:
    for place, name in enumerate(filter_):
        if name == "#":
            return True
        if place == len(levels) or name not in {"+", levels[place]}:
            return False
    return len(filter_) == len(levels)
