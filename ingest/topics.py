"""MQTT topics (docs/contract.md). Pure.

A topic is `TOKEN/rest`. The gateway keeps the rest, below the account, and puts the client's token before it
on the way out: subscriptions and retained messages survive a rotation.
"""

import re
from typing import NamedTuple

from ingest.message import Kind, Reason
from thingscale.lib.kinds import ENDPOINTS
from thingscale.lib.names import FROM_PLATFORM, bad_device_id, bad_tag, is_event_topic

_BY_FIRST_LEVEL = {
    each.first_level: (kind, each.tagged) for kind, each in ENDPOINTS.items() if each.first_level
}
BROKER_FILTERS = {kind.value: endpoint.broker_filter for kind, endpoint in ENDPOINTS.items()}
_TOKEN = re.compile(r"[0-9A-F]{32}|[0-9a-f]{32}")


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


def shown(topic: str) -> str:
    """A topic for people, whole but for its tokens."""
    return "/".join("TOKEN" if _TOKEN.fullmatch(level) else level for level in topic.split("/"))


def target(rest: str) -> Target:
    """What a publish to `TOKEN/rest` means."""
    first, *behind = rest.split("/", 2)
    if not behind:
        return _checked(Kind.FORM, first, None)
    device_id, tag = behind[0], behind[1] if len(behind) > 1 else None
    kind, tagged = _BY_FIRST_LEVEL.get(first, (None, False))
    if kind and (tagged or tag is None):
        return _checked(kind, device_id, tag)
    if tag is None and device_id in FROM_PLATFORM and not bad_device_id(first):
        return Target(None, first)
    if is_event_topic(rest):
        return Target(Kind.JSON, refused=Reason.PLATFORM_TOPIC)
    return Target(Kind.JSON, refused=Reason.UNKNOWN_TOPIC)


def _checked(kind: Kind, device_id: str, tag: str | None) -> Target:
    if refused := bad_device_id(device_id):
        return Target(kind, device_id[:64], None, refused)
    if tag is not None and bad_tag(tag):
        return Target(kind, device_id, None, Reason.UNKNOWN_TOPIC)
    return Target(kind, device_id, tag)


def split_group(topic_filter: str) -> tuple[str, str]:
    """A subscription's share group, or an empty one, and its filter."""
    if not topic_filter.startswith("$share/"):
        return "", topic_filter
    group, _, topic_filter = topic_filter.removeprefix("$share/").partition("/")
    return group, topic_filter


def split_filter(topic_filter: str) -> tuple[str, str, str]:
    """A subscription's share prefix (`$share/group/` or empty), first level, and the rest with its `/`."""
    whole = topic_filter
    group, topic_filter = split_group(whole)
    share = f"$share/{group}/" if topic_filter != whole else ""
    first, slash, rest = topic_filter.partition("/")
    return share, first, slash + rest
