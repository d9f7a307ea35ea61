"""The rules of a channel, compiled so that a datapoint that concerns none of them costs little. Pure."""

import math
from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from typing import Any

import orjson

from thingscale.events.evaluate import Number, Path, Rule

# When values are compared by columns. Else each by itself costs less.
MIN_ROWS = 4  # of a channel, on average, since the limits of all channels have to be found
MAX_KEYS = 32  # that are looked for in the text of all values
MAX_COLUMNS = 8  # each is of all values, also of those that do not have the key


class ChannelRules:
    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.by_event = {rule.event: rule for rule in rules}
        self.by_path = group(rules)
        self.remembering = tuple(rule for rule in rules if rule.remembers)
        self.of_some_devices = any(rule.devices for rule in rules)
        self.never_quiet = False
        texts: set[str] = set()  # sources whose texts, true and false may match
        # By source: the numbers that match nothing.
        sources: dict[str, tuple[Path, Number, Number, set[Number]]] = {}
        for rule in rules:
            if rule.quiet is None:
                self.never_quiet = True
                continue
            low, high, exception = rule.quiet
            if rule.compares_text:
                texts.add(rule.path.source)
            path, lowest, highest, exceptions = sources.get(
                rule.path.source, (rule.path, float("-inf"), float("inf"), set())
            )
            if exception is not None:
                exceptions.add(exception)
            sources[rule.path.source] = path, max(low, lowest), min(high, highest), exceptions
        # Of most events, the source is the key of a number. Each with a number that is quiet, for values
        # that do not have the key.
        self.keys: list[tuple[str, Number, Number, Number]] = []
        self._paths: list[tuple[Path, Number, Number, set[Number]]] = []  # the others, into objects
        self.of_bare: list[tuple[Number, Number, set[Number]]] = []  # of values that are no objects
        for path, low, high, exceptions in sources.values():
            if path.takes_bare:
                self.of_bare.append((low, high, exceptions))
            between = _between(low, high)
            simple = len(path.steps) == 1 and path.source != "value1" and path.source not in texts
            if simple and not exceptions and between is not None:
                self.keys.append((path.source, low, high, between))
            elif path.steps:
                self._paths.append((path, low, high, exceptions))

        # An object without any of these keys has nothing that these paths lead to.
        self.roots = {key for path, *_ in self._paths for key in _roots(path)}

    def quiet(self, value: Any) -> bool:
        """Whether the value, as it was parsed, certainly matches no rule. False: it has to be looked at."""
        if self.never_quiet:
            return False
        if value.__class__ is not dict:
            kind = value.__class__
            return value is None or all(
                (kind is float or kind is int) and low < value < high and value not in exceptions
                for low, high, exceptions in self.of_bare
            )
        get = value.get
        try:
            for key, low, high, between in self.keys:
                if not low < get(key, between) < high:
                    return False
        except TypeError:  # that is no number
            return False
        if self.roots.isdisjoint(value):
            return True
        for path, low, high, exceptions in self._paths:
            found = path.one(value)
            if found is not None:
                kind = found.__class__
                if (kind is not float and kind is not int) or not low < found < high or found in exceptions:
                    return False
        return True


def group(rules: Iterable[Rule]) -> list[tuple[Path, list[Rule]]]:
    """By path, since what that leads to is the same for all its rules."""
    paths: dict[str, tuple[Path, list[Rule]]] = {}
    for rule in rules:
        paths.setdefault(rule.path.source, (rule.path, []))[1].append(rule)
    return list(paths.values())


def suspicious(values: Sequence[Any], text: bytes, rules: Collection[ChannelRules]) -> set[int] | None:
    """Places of values that may match one of the rules, whichever channel they are of; None: any may. `text`
    has all the values. A key is compared in all of them at once, between the limits of all channels, which
    costs a fraction of what `quiet` does for each."""
    if len(values) < MIN_ROWS * len(rules):
        return None
    limits: dict[str, tuple[Number, Number]] = {}
    roots: set[str] = set()
    for each in rules:
        for key, low, high, _ in each.keys:
            known = limits.get(key)
            if known is None:
                limits[key] = low, high
            elif low > known[0] or high < known[1]:
                limits[key] = max(low, known[0]), min(high, known[1])
        roots |= each.roots
    if len(limits) + len(roots) > MAX_KEYS:
        return None
    mentioned = [key for key in limits if _mentions(text, key)]
    if len(mentioned) > MAX_COLUMNS:
        return None
    found: set[int] = set()
    try:
        for key in mentioned:
            low, high = limits[key]
            try:
                column = list(map(itemgetter(key), values))
            except KeyError:  # not all have it
                between = _between(low, high)
                column = [value.get(key, between) for value in values]
            least, most = min(column), max(column)
            if not low < least <= most < high:
                if type(most) is float and float(low) == low and float(high) == high:
                    low, high = float(low), float(high)  # Python compares them in half the time
                found.update([place for place, each in enumerate(column) if not low < each < high])
        if any(_mentions(text, root) for root in roots):
            found.update([place for place, value in enumerate(values) if not roots.isdisjoint(value)])
        if any(each.of_bare for each in rules):
            found.update([place for place, value in enumerate(values) if value.__class__ is not dict])
    except (AttributeError, TypeError):  # values that are no objects, and keys that are no numbers
        return None
    return found


def _mentions(text: bytes, key: str) -> bool:
    """Whether a JSON text may have the key."""
    return orjson.dumps(key)[:-1] in text or b"\\" in text  # which may write it in another way


def _roots(path: Path) -> set[str]:
    first = path.steps[0]
    return {first, path.source} | ({"value"} if first == "value1" else set())


def _between(low: Number, high: Number) -> Number | None:
    for number in (0, math.nextafter(low, math.inf), math.nextafter(high, -math.inf)):
        if low < number < high:
            return number
    return None
