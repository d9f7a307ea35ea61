"""The rules of a channel, compiled so that a datapoint that concerns none of them costs little. Pure."""

from collections.abc import Sequence
from typing import Any

from thingscale.events.evaluate import Number, Path, Rule

_ABSENT = object()


class ChannelRules:
    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.remembers = any(rule.remembers for rule in rules)
        self.of_some_devices = any(rule.devices for rule in rules)
        self._never_quiet = False
        # By source: the numbers that match nothing.
        sources: dict[str, tuple[Path, Number, Number, set[Number]]] = {}
        for rule in rules:
            if rule.quiet is None:
                self._never_quiet = True
                continue
            low, high, exception = rule.quiet
            path, lowest, highest, exceptions = sources.get(
                rule.path.source, (rule.path, float("-inf"), float("inf"), set())
            )
            if exception is not None:
                exceptions.add(exception)
            sources[rule.path.source] = path, max(low, lowest), min(high, highest), exceptions
        self._sources = list(sources.values())

    def quiet(self, value: Any) -> bool:
        """Whether the value, as it was parsed, certainly matches no rule. False: it has to be looked at."""
        if self._never_quiet:
            return False
        for path, low, high, exceptions in self._sources:
            found = value
            if type(value) is dict:
                if len(path.steps) == 1:
                    found = value.get(path.source, _ABSENT)
                    if found is _ABSENT and path.source == "value1":
                        found = value.get("value", _ABSENT)
                else:
                    for step, rest in zip(path.steps, path.rests, strict=True):
                        if type(found) is not dict or (rest != step and rest in found):
                            return False
                        found = found.get(step, _ABSENT)
                        if found is _ABSENT:
                            break
                    if found is value:  # an empty path leads nowhere in an object
                        continue
                    if found is _ABSENT and path.steps[0] == "value1":
                        return False
                if found is _ABSENT:
                    continue
            elif not path.takes_bare:
                continue
            kind = type(found)
            if (kind is not float and kind is not int) or not low < found < high or found in exceptions:
                return False
        return True
