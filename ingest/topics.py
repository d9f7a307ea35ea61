"""MQTT topics (docs/contract.md). Pure.

A topic is `TOKEN/rest`. The gateway keeps the rest, below the account, and puts the client's token before it
on the way out: subscriptions and retained messages survive a rotation.
"""

import re
from typing import NamedTuple

from ingest.message import Kind, Reason
from thingscale.lib.names import bad_device_id, bad_tag


class TopicForm(NamedTuple):
    """`TOKEN/first/DEVICE_ID[/TAG]`; `first` is empty where the device id comes at once."""

    first: str
    tagged: bool

    @property
    def broker_filter(self) -> str:
        """What broker mode subscribes to. No topic matches two of them; a tag may have levels of its own."""
        device = f"+/{self.first}/+" if self.first else "+/+"
        return f"{device}/#" if self.tagged else device

    def rest(self, device_id: str, tag: str | None = None) -> str:
        """The topic behind the token."""
        return "/".join(filter(None, (self.first, device_id, tag)))


# One row for each kind, from which parsing, subscribing and showing derive; None: it does not come by MQTT.
FORMS: dict[Kind, TopicForm | None] = {
    Kind.JSON: TopicForm("json", tagged=True),
    Kind.BINARY: TopicForm("binary", tagged=True),
    Kind.STATE: TopicForm("state", tagged=False),
    Kind.FORM: TopicForm("", tagged=False),
    Kind.MESSAGE: None,
}
_BY_FIRST = {form.first: (kind, form) for kind, form in FORMS.items() if form and form.first}
BROKER_FILTERS = {kind.value: form.broker_filter for kind, form in FORMS.items() if form}
_TOKEN = re.compile(r"[0-9A-F]{32}|[0-9a-f]{32}")
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


def shown(topic: str) -> str:
    """A topic for people, whole but for its tokens."""
    return "/".join("TOKEN" if _TOKEN.fullmatch(level) else level for level in topic.split("/"))


def target(rest: str) -> Target:
    """What a publish to `TOKEN/rest` means."""
    first, *behind = rest.split("/", 2)
    if not behind:
        return _checked(Kind.FORM, first, None)
    device_id, tag = behind[0], behind[1] if len(behind) > 1 else None
    kind, form = _BY_FIRST.get(first, (None, None))
    if kind and form and (form.tagged or tag is None):
        return _checked(kind, device_id, tag)
    if tag is None and device_id in _FROM_PLATFORM and not bad_device_id(first):
        return Target(None, first)
    return Target(Kind.JSON, refused=Reason.UNKNOWN_TOPIC)


def _checked(kind: Kind, device_id: str, tag: str | None) -> Target:
    if refused := bad_device_id(device_id):
        return Target(kind, device_id[:64], None, refused)
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
