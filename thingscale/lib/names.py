"""Rules for device ids and tags (CONTRACT 1)."""

import re

MAX_LENGTH = 64
_UNUSABLE = re.compile(r"[/+#\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def bad_device_id(device_id: str) -> str | None:
    """The error code for an impossible device id, or None."""
    if device_id in {"", "0"}:
        return "DEVICE_ID_ZERO"
    return "BAD_PARAMETER" if _unusable(device_id) else None


def bad_tag(tag: str) -> bool:
    return not tag or _unusable(tag)


def _unusable(name: str) -> bool:
    return len(name) > MAX_LENGTH or _UNUSABLE.search(name) is not None
