"""Rules for device ids and tags (CONTRACT 1, 4)."""

import re

MAX_LENGTH = 64  # of a device id
MAX_TAG = 128
TAG_RULE = f"1 to {MAX_TAG} characters, no + # or control characters, no empty level between slashes"
_UNUSABLE = re.compile(r"[/+#\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNUSABLE_IN_TAG = re.compile(r"[+#\x00-\x1f\x7f-\x9f\ud800-\udfff]|^/|//|/$")


def bad_device_id(device_id: str) -> str | None:
    """The error code for an impossible device id, or None."""
    if device_id in {"", "0"}:
        return "DEVICE_ID_ZERO"
    bad = len(device_id) > MAX_LENGTH or _UNUSABLE.search(device_id)
    return "BAD_PARAMETER" if bad else None


def bad_tag(tag: str) -> bool:
    """It may have levels, as the end of a topic has: sensor/temp/state."""
    return not tag or len(tag) > MAX_TAG or _UNUSABLE_IN_TAG.search(tag) is not None
