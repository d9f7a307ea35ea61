"""MQTT topics of the contract (CONTRACT 4). Pure.

A topic is `TOKEN/rest`. The gateway replaces the token by the user id before a topic reaches the upstream
broker, and puts it back on the way out: the broker never sees a token, and subscriptions and retained
messages survive a rotation.
"""

from typing import NamedTuple

from ingest.message import Kind, Reason
from thingscale.lib.names import bad_device_id, bad_tag

_KINDS = {"json": Kind.JSON, "binary": Kind.BINARY, "state": Kind.STATE}
_FROM_PLATFORM = {"subscribe", "errors"}


class Target(NamedTuple):
    """Where a publish goes. `kind` None: to subscribers only; `refused`: nowhere, and why."""

    kind: Kind | None
    device_id: str = ""
    tag: str | None = None
    refused: Reason | None = None


def split(topic: str) -> tuple[str, str]:
    """The token and the rest; the rest of a topic without `/` is empty."""
    token, _, rest = topic.partition("/")
    return token, rest


def target(rest: str) -> Target:
    """What a publish to `TOKEN/rest` means."""
    levels = rest.split("/")
    match levels:
        case [("json" | "binary") as kind, device_id] | ["state" as kind, device_id]:
            return _checked(_KINDS[kind], device_id, None)
        case [("json" | "binary") as kind, device_id, tag]:
            return _checked(_KINDS[kind], device_id, tag)
        case [device_id, last] if last in _FROM_PLATFORM and not bad_device_id(device_id):
            return Target(None, device_id)
        case [device_id]:
            return _checked(Kind.FORM, device_id, None)
    return Target(Kind.JSON, refused=Reason.UNKNOWN_TOPIC)


def _checked(kind: Kind, device_id: str, tag: str | None) -> Target:
    if code := bad_device_id(device_id):
        return Target(kind, device_id[:64], None, Reason(code))
    if tag is not None and bad_tag(tag):
        return Target(kind, device_id, None, Reason.UNKNOWN_TOPIC)
    return Target(kind, device_id, tag)


def split_filter(topic_filter: str) -> tuple[str, str, str]:
    """A subscription's share prefix (`$share/group/` or empty), first level, and the rest with its `/`."""
    share = ""
    if topic_filter.startswith("$share/"):
        group, _, topic_filter = topic_filter.removeprefix("$share/").partition("/")
        share = f"$share/{group}/"
    first, slash, rest = topic_filter.partition("/")
    return share, first, slash + rest


def sees_ingest(rest: str) -> bool:
    """Whether a filter `TOKEN` + rest (with its leading `/`) can match a topic that the gateway answers
    itself, so that those publishes must be forwarded to the upstream broker."""
    levels = rest.removeprefix("/").split("/")
    first = levels[0]
    if first == "#" or (len(levels) == 1 and first):
        return True
    if first in _KINDS:
        return len(levels) <= 3 or levels[-1] == "#"
    # `+/x` matches json/x; `dev/#` matches the parent `dev`; `+/subscribe` would match json/subscribe.
    return first == "+" or levels[1:] == ["#"]
