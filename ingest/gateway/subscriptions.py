"""The subscriptions of one account: which subscribers get a message. Pure.

Topics and filters are relative to the account: what follows `TOKEN/`. So their first level is never the first
level on the wire, and a `$` in front of it means nothing ([MQTT-4.7.2-1] is about topics of the server).
Topics without a token have a level in front, for which no wildcard stands (thingscale/lib/own_topics.py).
Filters come without `$share/GROUP/`; the group is a parameter of its own.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from sys import getsizeof
from typing import Any, Final, Generic, NamedTuple, TypeVar

from ingest.mqtt.packets import Subscription
from thingscale.lib.own_topics import MARK

# What `match` remembers of one account. Its figures are upper bounds, see _find.
MAX_CACHED_TOPICS: Final = 1_000
MAX_CACHED_BYTES: Final = 256 * 1024
_CACHED_ENTRY_BYTES: Final = 200  # dict entry and tuple, without what they refer to
_MERGED_BYTES: Final = 160

S = TypeVar("S", bound=Hashable)
V = TypeVar("V")


class Match(NamedTuple, Generic[S]):
    """How one subscriber gets a message: once, however many of its filters match."""

    subscriber: S
    qos: int
    retain_as_published: bool
    no_local: bool
    identifiers: tuple[int, ...]


class Subscribed(NamedTuple):
    """One subscription of a subscriber; `group` is empty if it is not shared.

    `subscription.retain_handling` is 0: it is about the SUBSCRIBE packet and not kept.
    """

    group: str
    filter: str
    subscription: Subscription
    identifier: int


class SharedGroup(Generic[S]):
    """A shared subscription (section 4.8.2): a group's name and a filter, and those who take turns."""

    __slots__ = ("_members", "filter", "name")

    def __init__(self, name: str, topic_filter: str) -> None:
        self.name = name
        self.filter = topic_filter
        self._members: OrderedDict[S, Match[S]] = OrderedDict()  # the one that has waited longest comes first

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Match[S]]:
        """In the order of their turns; this takes nobody's turn."""
        return iter(self._members.values())

    def choose(self, able: Callable[[S], bool] | None = None) -> Match[S] | None:
        """The next in turn of those who are able to take a message; the turn then is over.

        Whoever is passed over keeps the place, and so is the first to be asked the next time.
        """
        for subscriber, match in self._members.items():
            if able is None or able(subscriber):
                self._members.move_to_end(subscriber)
                return match
        return None


# The subscribers of one filter: a lone one needs no dict.
_Subscribers = Match[S] | dict[S, Match[S]]
_Key = str | tuple[str, str]  # a filter, or a group and a filter


class SubscriptionTree(Generic[S]):
    """The subscriptions of one account. Not thread-safe.

    The caller limits their number and the levels of a filter: comparing takes about 0.2 us a level.

    `match` remembers its answers, because a topic that was published to will be published to again. A changed
    exact filter forgets the answer for its own topic only. A changed wildcard filter forgets all. Each answer
    is dropped only once, so a client that subscribes in a loop finds nothing left to drop, and costs a
    publish of the same account what finding the match anew takes: about 2 us, much less than to deliver it.
    A subscription that is repeated as it was changes and forgets nothing.
    """

    __slots__ = ("_cache", "_cached_bytes", "_count", "_index", "_owned", "_shared")

    def __init__(self) -> None:
        self._index: _FilterIndex[_Subscribers[S]] = _FilterIndex()
        self._shared: _FilterIndex[dict[str, SharedGroup[S]]] | None = None
        self._owned: dict[S, _Key | dict[_Key, None]] = {}  # a lone subscription needs no dict either
        self._count = 0
        self._cache: dict[str, tuple[Match[S], ...]] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        """How many subscriptions there are."""
        return self._count

    @property
    def nodes(self) -> int:
        """How many nodes the wildcard filters need, about 250 bytes each.

        Ordinary filters need far fewer nodes than there are filters; long ones made for it need one a level.
        """
        return self._index.nodes + (self._shared.nodes if self._shared else 0)

    def count(self, subscriber: S) -> int:
        """How many subscriptions one subscriber has."""
        return len(_keys(self._owned.get(subscriber)))

    def has(self, subscriber: S, topic_filter: str, group: str = "") -> bool:
        key = (group, topic_filter) if group else topic_filter
        owned = self._owned.get(subscriber)
        return key in owned if isinstance(owned, dict) else owned == key

    def qos(self, subscriber: S, topic_filter: str, group: str = "") -> int:
        """The QoS of a subscription that exists."""
        return self._get(subscriber, group, topic_filter).qos

    def subscribe(
        self,
        subscriber: S,
        topic_filter: str,
        subscription: Subscription,
        identifier: int = 0,
        group: str = "",
    ) -> bool:
        """Whether it is a new one. One that was there gets the new options and identifier [MQTT-3.8.4-3].

        `topic_filter` counts, not the field of `subscription`, which may have the token and the group.
        """
        identifiers = (identifier,) if identifier else ()
        match = Match(
            subscriber,
            subscription.qos,
            subscription.retain_as_published,
            subscription.no_local,
            identifiers,
        )
        new = self._join(group, topic_filter, match) if group else self._add(topic_filter, match)
        if new:
            self._count += 1
            key = (group, topic_filter) if group else topic_filter
            owned = self._owned.get(subscriber)
            if owned is None:
                self._owned[subscriber] = key
            elif isinstance(owned, dict):
                owned[key] = None
            else:
                self._owned[subscriber] = {owned: None, key: None}
        return new

    def unsubscribe(self, subscriber: S, topic_filter: str, group: str = "") -> bool:
        """Whether it was there."""
        key = (group, topic_filter) if group else topic_filter
        owned = self._owned.get(subscriber)
        if type(owned) is dict:
            if key not in owned:
                return False
            del owned[key]
            if len(owned) == 1:
                self._owned[subscriber] = next(iter(owned))
        elif owned == key:
            del self._owned[subscriber]
        else:
            return False
        self._drop(subscriber, key)
        return True

    def remove(self, subscriber: S) -> None:
        """All its subscriptions."""
        for key in _keys(self._owned.pop(subscriber, None)):
            self._drop(subscriber, key)

    def filters(self, subscriber: S) -> Iterator[Subscribed]:
        """Its subscriptions, in the order in which they were made."""
        for key in _keys(self._owned.get(subscriber)):
            group, topic_filter = key if isinstance(key, tuple) else ("", key)
            match = self._get(subscriber, group, topic_filter)
            subscription = Subscription(
                topic_filter, match.qos, match.no_local, match.retain_as_published, retain_handling=0
            )
            yield Subscribed(group, topic_filter, subscription, sum(match.identifiers))

    def match(self, topic: str) -> Sequence[Match[S]]:
        """The subscribers that get a message, without shared subscriptions; the order means nothing.

        Where several filters of one subscriber match: the highest QoS, Retain As Published if any has it, No
        Local only if all have it, and the identifiers of all.
        """
        found = self._cache.get(topic)
        return self._find(topic) if found is None else found

    @property
    def has_shared(self) -> bool:
        """Whether there ever was a shared subscription."""
        return self._shared is not None

    def shared(self, topic: str) -> Sequence[SharedGroup[S]]:
        """The groups one member of which gets a message; each group is a shared subscription of its own.

        The caller chooses the member, because it knows who is able to take the message: see `choose`.
        """
        if self._shared is None:
            return ()
        return [group for groups in self._shared.find(topic) for group in groups.values()]

    def group(self, name: str, topic_filter: str) -> SharedGroup[S] | None:
        groups = self._shared.get(topic_filter) if self._shared else None
        return groups.get(name) if groups else None

    def _add(self, topic_filter: str, match: Match[S]) -> bool:
        there = self._index.get(topic_filter)
        subscriber = match.subscriber
        new = True
        if there is None:
            self._index.put(topic_filter, match)
        elif type(there) is dict:
            old = there.get(subscriber)
            if old == match:
                return False
            new = old is None
            there[subscriber] = match
        else:
            assert isinstance(there, Match)
            if there == match:
                return False
            new = there.subscriber != subscriber
            self._index.put(topic_filter, {there.subscriber: there, subscriber: match} if new else match)
        self._forget(topic_filter)
        return new

    def _join(self, name: str, topic_filter: str, match: Match[S]) -> bool:
        if self._shared is None:
            self._shared = _FilterIndex()
        groups = self._shared.get(topic_filter)
        if groups is None:
            groups = {}
            self._shared.put(topic_filter, groups)
        group = groups.get(name)
        if group is None:
            group = groups[name] = SharedGroup(name, topic_filter)
        new = match.subscriber not in group._members
        group._members[match.subscriber] = match  # one that was there keeps its turn
        return new

    def _get(self, subscriber: S, group: str, topic_filter: str) -> Match[S]:
        if group:
            assert self._shared is not None
            groups = self._shared.get(topic_filter)
            assert groups is not None
            return groups[group]._members[subscriber]
        there = self._index.get(topic_filter)
        assert there is not None
        return there[subscriber] if isinstance(there, dict) else there

    def _drop(self, subscriber: S, key: _Key) -> None:
        self._count -= 1
        if isinstance(key, tuple):
            name, topic_filter = key
            assert self._shared is not None
            groups = self._shared.get(topic_filter)
            assert groups is not None
            del groups[name]._members[subscriber]
            if not groups[name]:
                del groups[name]
            if not groups:
                self._shared.drop(topic_filter)
            return
        there = self._index.get(key)
        if type(there) is dict:
            del there[subscriber]
            if len(there) == 1:
                self._index.put(key, next(iter(there.values())))
        else:
            self._index.drop(key)
        self._forget(key)

    def _find(self, topic: str) -> tuple[Match[S], ...]:
        found = self._index.find(topic)
        if not self._index.wild and (not found or type(found[0]) is not dict):
            # Nearly as quick as the cache, which so is not filled with topics that nobody listens to.
            return (found[0],) if found else ()  # type: ignore[return-value]
        size = 0
        if not found:
            matches: tuple[Match[S], ...] = ()
        elif len(found) == 1:
            matches = _listed(found[0])
        else:
            merged: dict[S, Match[S]] = {}
            for there in found:
                for match in _listed(there):
                    other = merged.get(match.subscriber)
                    if other is not None:
                        match = Match(  # noqa: PLW2901
                            match.subscriber,
                            max(other.qos, match.qos),
                            other.retain_as_published or match.retain_as_published,
                            other.no_local and match.no_local,
                            other.identifiers + match.identifiers,
                        )
                        size += _MERGED_BYTES + 8 * len(match.identifiers)
                    merged[match.subscriber] = match
            matches = tuple(merged.values())
        # What `_forget` removes still counts, until all is forgotten: that keeps it simple.
        size += _CACHED_ENTRY_BYTES + getsizeof(topic) + 8 * len(matches)
        # To deliver to more subscribers than that takes far longer than to find them again.
        if size <= MAX_CACHED_BYTES // 4:
            if len(self._cache) >= MAX_CACHED_TOPICS or self._cached_bytes + size > MAX_CACHED_BYTES:
                self._cache.clear()
                self._cached_bytes = 0
            self._cache[topic] = matches
            self._cached_bytes += size
        return matches

    def _forget(self, topic_filter: str) -> None:
        if _is_wild(topic_filter):
            self._cache.clear()
            self._cached_bytes = 0
        else:
            self._cache.pop(topic_filter, None)


class _Node(Generic[V]):
    """The filters that begin with the same levels, down to here."""

    __slots__ = ("below", "children", "here")

    def __init__(self) -> None:
        self.here: V | None = None  # of the filter that ends here
        self.below: V | None = None  # of the filter that ends here with "/#"
        self.children: dict[str, _Node[V] | _Leaf[V]] | None = None  # by the next level, "+" among them


class _Leaf(NamedTuple, Generic[V]):
    """The only filter that begins with these levels. Most are, and so need no node for each further level."""

    rest: str  # what follows the levels so far, with its "/"; empty if that is nothing
    value: V


_COMMON_RESTS: Final = {rest: rest for rest in ("", "/#", "/+")}  # so that there is one of each in memory


class _FilterIndex(Generic[V]):
    """A value for each filter: exact ones in a dict, those with wildcards in a trie."""

    __slots__ = ("_exact", "_root", "nodes")

    def __init__(self) -> None:
        self._exact: dict[str, V] = {}
        self._root: _Node[V] | None = None
        self.nodes = 0

    @property
    def wild(self) -> bool:
        """Whether there is any filter with wildcards."""
        return self._root is not None

    def get(self, topic_filter: str) -> V | None:
        if not _is_wild(topic_filter):
            return self._exact.get(topic_filter)
        node = self._root
        if node is None:
            return None
        end = 0
        for level in topic_filter.split("/"):
            if level == "#":
                return node.below
            end += len(level) + 1
            child = node.children.get(level) if node.children else None
            if child is None:
                return None
            if isinstance(child, _Leaf):
                return child.value if child.rest == topic_filter[end - 1 :] else None
            node = child
        return node.here

    def put(self, topic_filter: str, value: V) -> None:
        if not _is_wild(topic_filter):
            self._exact[topic_filter] = value
            return
        if self._root is None:
            self._root = self._new_node()
        node = self._root
        end = 0
        for level in topic_filter.split("/"):
            if level == "#":
                node.below = value
                return
            end += len(level) + 1
            if node.children is None:
                node.children = {}
            child = node.children.get(level)
            if child is None or isinstance(child, _Leaf):
                rest = topic_filter[end - 1 :]
                if child is None or child.rest == rest:
                    node.children[level] = _Leaf(_COMMON_RESTS.get(rest, rest), value)
                    return
                node.children[level] = child = self._split(child)
            node = child
        node.here = value

    def drop(self, topic_filter: str) -> None:
        """One that is there."""
        if not _is_wild(topic_filter):
            del self._exact[topic_filter]
            return
        assert self._root is not None
        node = self._root
        path: list[tuple[_Node[V], str]] = []
        for level in topic_filter.split("/"):
            if level == "#":
                node.below = None
                break
            assert node.children is not None
            child = node.children[level]
            if isinstance(child, _Leaf):
                del node.children[level]
                break
            path.append((node, level))
            node = child
        else:
            node.here = None
        # What has become empty goes, upwards.
        while node.here is None and node.below is None and not node.children:
            self.nodes -= 1
            if not path:
                self._root = None
                return
            node, level = path.pop()
            assert node.children is not None
            del node.children[level]
        if not node.children:
            node.children = None

    def find(self, topic: str) -> list[V]:
        """The values of all filters that match."""
        value = self._exact.get(topic)
        found = [] if value is None else [value]
        if self._root is None:
            return found
        levels = topic.split("/")
        nodes, start = [self._root], 0
        if levels[0] == MARK:
            top = self._root.children.get(MARK) if self._root.children else None
            if not isinstance(top, _Node):
                if top is not None and _rest_matches(top.rest, levels, 1):
                    found.append(top.value)
                return found
            nodes, start = [top], 1
        for behind, level in enumerate(levels[start:], start + 1):
            deeper = []
            for node in nodes:
                if node.below is not None:
                    found.append(node.below)
                children = node.children
                if children is None:
                    continue
                for key in (level, "+"):
                    child = children.get(key)
                    if child is None:
                        continue
                    if type(child) is _Node:
                        deeper.append(child)
                    elif _rest_matches(child.rest, levels, behind):  # type: ignore[union-attr]
                        found.append(child.value)  # type: ignore[union-attr]
            if not deeper:
                return found
            nodes = deeper
        for node in nodes:
            found.extend(value for value in (node.here, node.below) if value is not None)
        return found

    def _new_node(self) -> _Node[V]:
        self.nodes += 1
        return _Node()

    def _split(self, leaf: _Leaf[V]) -> _Node[V]:
        """A node in the place of a leaf, with the same filter below it."""
        node = self._new_node()
        rest, value = leaf
        if not rest:
            node.here = value
        elif rest == "/#":
            node.below = value
        else:
            level, slash, behind = rest[1:].partition("/")
            node.children = {level: _Leaf(slash + behind, value)}
        return node


def _keys(owned: _Key | dict[_Key, None] | None) -> Collection[_Key]:
    if isinstance(owned, dict):
        return owned
    return () if owned is None else (owned,)


def _is_wild(topic_filter: str) -> bool:
    """A filter is valid: where it has one of these characters, that is a wildcard."""
    return "+" in topic_filter or "#" in topic_filter


def _rest_matches(rest: str, levels: list[str], start: int) -> bool:
    """Whether a filter whose first `start` levels match does so with its rest."""
    if not rest:
        return start == len(levels)
    if rest == "/#":  # matches the parent, too
        return True
    wanted = rest[1:].split("/")
    for index, level in enumerate(wanted, start):
        if level == "#":
            return True
        if index == len(levels) or level not in ("+", levels[index]):
            return False
    return start + len(wanted) == len(levels)


def _listed(there: Any) -> tuple[Match[Any], ...]:
    return tuple(there.values()) if type(there) is dict else (there,)
