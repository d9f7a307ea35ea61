"""The keys of a value: `{"temp": 20, "a": {"b": 1}}` has `temp` and `a:b`. A bare number has `value`."""

from typing import Any

BARE = "value"


def value_keys(value: Any, above: str = "") -> list[str]:
    if isinstance(value, dict):
        joint = f"{above}:" if above else ""
        return [key for name, inner in value.items() for key in value_keys(inner, joint + name)]
    return [above or BARE]
