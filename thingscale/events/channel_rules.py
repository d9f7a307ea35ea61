"""The rules of a channel, compiled so that a datapoint that concerns none of them costs little. Pure."""

import math
from collections.abc import Sequence
from typing import Any

from thingscale.events.evaluate import Number, Path, Rule

_ABSENT = object()


class ChannelRules:
    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.by_event = {rule.event: rule for rule in rules}
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
        self._paths: list[tuple[Path, Number, Number, set[Number]]] = []
        for path, low, high, exceptions in sources.values():
            between = between_limits(low, high)
            if (
                len(path.steps) > 1
                or path.takes_bare
                or exceptions
                or path.source in texts
                or between is None
            ):
                self._paths.append((path, low, high, exceptions))
            else:
                self.keys.append((path.source, low, high, between))

        # An object without any of these keys has nothing that a path leads to.
        self.roots = {
            key for path, *_ in self._paths if path.steps for key in (path.steps[0], path.source, "value")
        }

    def quiet(self, value: Any) -> bool:
        """Whether the value, as it was parsed, certainly matches no rule. False: it has to be looked at."""
        if self.never_quiet:
            return False
        if value.__class__ is dict:
            get = value.get
            try:
                for key, low, high, between in self.keys:
                    if not low < get(key, between) < high:
                        return False
            except TypeError:  # that is no number
                return False
            if self.roots.isdisjoint(value):
                return True
        if self._paths:
            for path, low, high, exceptions in self._paths:
                found = _found(path, value)
                if found is not None:
                    kind = found.__class__
                    if (
                        (kind is not float and kind is not int)
                        or not low < found < high
                        or found in exceptions
                    ):
                        return False
        return True


def between_limits(low: Number, high: Number) -> Number | None:
    for number in (0, math.nextafter(low, math.inf), math.nextafter(high, -math.inf)):
        if low < number < high:
            return number
    return None


def _found(path: Path, value: Any) -> Any:
    """What the path leads to, if that is easily said; None: nothing that is compared. Else something that is
    no number."""
    if value.__class__ is not dict:
        return value if path.takes_bare else None
    if len(path.steps) == 1:
        found = value.get(path.source, _ABSENT)
        if found is _ABSENT and path.source == "value1":
            return value.get("value")
        return None if found is _ABSENT else found
    found = value if path.steps else None
    for step, rest in zip(path.steps, path.rests, strict=True):
        if found.__class__ is not dict or (rest != step and rest in found):
            return _ABSENT
        found = found.get(step)
        if found is None:
            return _ABSENT if step == "value1" else None
    return found
