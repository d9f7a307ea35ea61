"""Rules for device ids and tags (docs/contract.md, Words and ids).

A name comes into being only if it passes bad_device_id() or bad_tag(). One that is older than those rules
passes may_exist(): it can be read, renamed and deleted exactly as it is.
"""

import re
import unicodedata
from fnmatch import fnmatchcase

from thingscale.lib.reasons import Reason

MAX_LENGTH = 64  # of a device id
MAX_TAG = 128
MAX_TOPIC = 1024
ENDS_RULE = "no white space or invisible character at either end"
DEVICE_ID_RULE = (
    f"A device id has 1 to {MAX_LENGTH} characters, is not 0, and has no / + # or control characters, and"
    f" {ENDS_RULE}."
)
TAG_RULE = (
    f"1 to {MAX_TAG} characters, no + # or control characters, no empty level between slashes, {ENDS_RULE}"
)
COMMANDS, ERRORS = "subscribe", "errors"  # behind the device id, in topics that devices subscribe to
FROM_PLATFORM = frozenset({COMMANDS, ERRORS})
EVENTS = "events"  # before an event's number, in topics that say how it stands with the event
_UNUSABLE = re.compile(r"[/+#\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNUSABLE_IN_TAG = re.compile(r"[+#\x00-\x1f\x7f-\x9f\ud800-\udfff]|^/|//|/$")
_INVISIBLE_CATEGORIES = {"Zs", "Zl", "Zp", "Cc", "Cf"}  # spaces; zero-width, BOM, soft hyphen, bidi marks
_INVISIBLE_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")


def bad_device_id(device_id: str) -> Reason | None:
    """Why no new device may have this id, or None."""
    if device_id in {"", "0"}:
        return Reason.DEVICE_ID_ZERO
    bad = len(device_id) > MAX_LENGTH or _UNUSABLE.search(device_id) or _has_invisible_end(device_id)
    return Reason.BAD_PARAMETER if bad else None


def bad_tag(tag: str) -> bool:
    """Whether no new tag may have this name. It may have levels, as a topic has: sensor/temp/state."""
    return not may_exist(tag) or _has_invisible_end(tag)


def may_exist(name: str) -> bool:
    """Whether a device or a tag can have this name at all; also keeps what PostgreSQL can't compare out of
    queries."""
    return 0 < len(name) <= MAX_TAG and _UNUSABLE_IN_TAG.search(name) is None


def valid_topic(topic: str) -> bool:
    """Of an MQTT message, without the token; not as one that never had a token is kept (own_topics.py)."""
    return 0 < len(topic) <= MAX_TOPIC and re.search(r"^\x02/|[+#\x00\ud800-\udfff]", topic) is None


def matches(device_id: str, pattern: str) -> bool:
    """In the pattern, * stands for any characters, and ? for one."""
    return fnmatchcase(device_id, pattern.replace("[", "[[]"))


def is_event_topic(topic: str) -> bool:
    """Without the token. Only the platform publishes there. A device may be called `events`, too, and has
    topics of its own."""
    first, slash, rest = topic.partition("/")
    return first == EVENTS and slash != "" and rest not in FROM_PLATFORM


def is_blank(name: str) -> bool:
    return all(map(_is_invisible, name))


def _has_invisible_end(name: str) -> bool:
    if name.isascii():
        return name[0] == " " or name[-1] == " "
    return _is_invisible(name[0]) or _is_invisible(name[-1])


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in _INVISIBLE_CATEGORIES or character in _INVISIBLE_LETTERS
