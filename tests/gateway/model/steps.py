"""The steps of a script: plain values, so that a script can be printed, replayed and shortened.

Topics and filters are relative: the server under test says what stands in front of them. A step that does
not fit (a client that is not connected publishes) is skipped, so that any part of a script is a script.
"""

from typing import NamedTuple, TypeAlias

CLIENTS = tuple(f"c{number}" for number in range(6))
TOPICS = ("d1/subscribe", "d2/subscribe", "json/d1", "json/d1/t", "json/d2/t/u")
SENTINEL = "d0/subscribe"
FILTERS = (
    "#",
    "+/subscribe",
    "d1/subscribe",
    "d2/subscribe",
    "d1/#",
    "json/#",
    "json/+",
    "json/d1",
    "json/d1/#",
    "json/+/t",
    "+/d1",
    "+/+/t/#",
)
# No topic matches two of them, and none that one matches is ever cleared: whose copy a client was sent could
# not be said.
SHARED = ("$share/g/json/d2/#", "$share/h/d2/subscribe")
CLEARED = ("d1/subscribe", "json/d1", "json/d1/t")

NEVER = 0xFFFF_FFFF  # a session that does not expire
SHORT = 1  # seconds: over after a Wait, and until then nobody knows
LONG = 3600


class Message(NamedTuple):
    topic: str
    number: int  # what the payload carries, unique in a script; 0: no payload, which clears what is retained
    qos: int
    retain: bool
    style: int = 0  # its properties, see driver.STYLES
    expiry: int = 0  # 0: none
    alias: int = 0


class Will(NamedTuple):
    message: Message
    delay: int


class Filter(NamedTuple):
    filter: str
    qos: int
    no_local: bool
    retain_as_published: bool
    retain_handling: int


class Connect(NamedTuple):
    """Takes over from the client's connection where there is one."""

    client: str
    version: int
    clean: bool
    expiry: int  # MQTT 5 only
    receive_maximum: int  # MQTT 5 only; 0: none
    alias_maximum: int  # MQTT 5 only
    will: Will | None


class Disconnect(NamedTuple):
    client: str
    publish_will: bool  # MQTT 5 only
    expiry: int | None  # MQTT 5 only; None: as it was


class CutConnect(NamedTuple):
    """A connection that ends within its CONNECT, after `at` bytes (modulo its length)."""

    connect: Connect
    at: int


class CutPublish(NamedTuple):
    """The connection ends within a PUBLISH, or behind it without waiting for an answer."""

    client: str
    message: Message
    at: int


class CutPacket(NamedTuple):
    """The connection ends within a packet of another kind, which so has no effect."""

    client: str
    packet: str  # "subscribe", "unsubscribe", "disconnect", "ping" or "answer" (to a message held back)
    at: int


class Subscribe(NamedTuple):
    client: str
    filters: tuple[Filter, ...]
    identifier: int  # MQTT 5 only; 0: none


class Unsubscribe(NamedTuple):
    client: str
    filters: tuple[str, ...]


class Publish(NamedTuple):
    """All in one write."""

    client: str
    messages: tuple[Message, ...]


class Begin(NamedTuple):
    """A QoS 2 message up to its PUBREC."""

    client: str
    message: Message


class Finish(NamedTuple):
    """PUBREL for all that has begun."""

    client: str


class Hold(NamedTuple):
    """From now on the client answers no message (`completions_only`: no PUBREL), until Release."""

    client: str
    completions_only: bool


class Release(NamedTuple):
    client: str


class Kill(NamedTuple):
    """kill -9 and start again, in the middle of `client`'s messages if there are any."""

    client: str
    messages: tuple[Message, ...]


class Wait(NamedTuple):
    """Until what expires after SHORT seconds has."""


Step: TypeAlias = (
    Connect
    | Disconnect
    | CutConnect
    | CutPublish
    | CutPacket
    | Subscribe
    | Unsubscribe
    | Publish
    | Begin
    | Finish
    | Hold
    | Release
    | Kill
    | Wait
)
