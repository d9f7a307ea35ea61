"""The streams inside a value: `{"temp": 20, "a": {"b": 1}}` has `temp` and `a:b`; a bare one is `value`."""

from typing import Any

BARE = "value"


def keys_of(value: Any, above: str = "") -> list[str]:
    if isinstance(value, dict):
        joint = f"{above}:" if above else ""
        return [key for name, inner in value.items() for key in keys_of(inner, joint + name)]
    return [above or BARE]
