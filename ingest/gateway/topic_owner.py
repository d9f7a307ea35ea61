"""Whose a topic or a filter is: it begins with a token, or the account of a signed-in client has topics
without one (thingscale/lib/own_topics.py)."""

from collections.abc import Sequence
from typing import Protocol

from ingest import intake_cache, topics
from ingest.device_tokens import TokenOwner
from ingest.intake_cache import KnownIntake
from ingest.message import Kind
from thingscale.lib import own_topics
from thingscale.lib.reasons import Reason


class Asking(Protocol):
    """A client, whether it is connected or not."""

    @property
    def token_owner(self) -> TokenOwner | None: ...
    def owner(self, token: str) -> TokenOwner | None: ...


def find(client: Asking, topic: str) -> tuple[TokenOwner, str] | None:
    """Its owner, and its name relative to the account. Also of a filter without its share group. None: it is
    not this client's."""
    token, rest = topics.split(topic)
    if owner := client.owner(token):
        return None if rest == own_topics.MARK or rest.startswith(own_topics.PREFIX) else (owner, rest)
    sender = client.token_owner
    if sender and sender.own_topics and own_topics.has_form(topic):
        return sender, own_topics.kept(topic)
    return None


def target(name: str) -> topics.Target:
    """What a publish means, but for intakes. `name`: as find() returns it."""
    if not name.startswith(own_topics.PREFIX):
        return topics.target(name)
    topic = name.removeprefix(own_topics.PREFIX)
    if own_topics.too_long(topic):
        return topics.Target(Kind.JSON, refused=Reason.UNKNOWN_TOPIC)
    return topics.Target(None)


def intake_for(intakes: Sequence[KnownIntake], name: str) -> KnownIntake | None:
    """Which of the account's intakes makes datapoints of messages to this topic; None: they are for
    subscribers only."""
    if not intakes or not name.startswith(own_topics.PREFIX):
        return None
    return intake_cache.taking(intakes, name.removeprefix(own_topics.PREFIX))
