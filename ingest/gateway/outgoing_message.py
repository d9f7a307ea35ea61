"""A message on its way to connected clients, and the PUBLISH packets that they get of it. Pure."""

from struct import Struct
from typing import Final, NamedTuple

from ingest.mqtt.codec_publish import encode_publish
from ingest.mqtt.packets import PUBLISH, V5, Properties, Publish, Version
from ingest.mqtt.properties import Property, write_properties
from thingscale.lib import own_topics

MAX_ENCODINGS = 4  # of one message, kept for its further receivers

_OF_THE_CONNECTION: Final = frozenset(
    (Property.TOPIC_ALIAS, Property.SUBSCRIPTION_IDENTIFIER, Property.MESSAGE_EXPIRY_INTERVAL)
)
_SHORT: Final = 0x80  # a Remaining Length below this is one byte
_pack_head: Final = Struct(">BBH").pack


class OutgoingMessage:
    """One message for all its receivers, who share its encodings.

    `topic` is relative to the account: each receiver's prefix (`TOKEN/`) goes before it, unless it is one
    without a token, and before the response topic, if that is relative, too (`relative_response`).
    `properties` are those of the publisher, without those of its connection (alias, identifiers); the expiry
    interval is computed again when the message is sent. `expires_at` is of time.monotonic(), as every `now`
    here.
    """

    __slots__ = (
        *("_encodings", "_size", "command", "expires_at", "payload", "properties", "relative_response"),
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        properties: Properties,
        expires_at: float | None = None,
        *,
        relative_response: bool = False,
    ) -> None:
        self.topic = topic
        self.command = 0  # key of the Command, if an app has published it
        self.payload = payload
        self.properties = properties
        self.expires_at = expires_at
        self.relative_response = relative_response
        self._size = 0
        self._encodings: dict[tuple[object, ...], tuple[bytes, bytes]] | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        if not self._size:
            properties = write_properties(self.properties_for("", (), None), PUBLISH)
            self._size = len(self.topic) + len(self.payload) + len(properties)
        return self._size

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def encode(self, delivery: "Delivery", prefix: str, version: Version, now: float) -> tuple[bytes, bytes]:
        """A PUBLISH without DUP: what comes before its packet id, and what comes after. At QoS 0, which has
        no packet id, the first part is all of it."""
        _, qos, retain, identifiers, _ = delivery
        left: int | None = None
        if version == V5:
            if self.expires_at is not None:
                left = self.seconds_left(now)
            key: tuple[object, ...] = (prefix, qos, retain, identifiers, left)
        else:
            key = (prefix, qos, retain)
        if self._encodings is None:
            self._encodings = {}
        encoded = self._encodings.get(key)
        if encoded is None:
            if len(self._encodings) >= MAX_ENCODINGS:
                self._encodings.clear()
            encoded = self._encodings[key] = self._encode(delivery, prefix, version, left)
        return encoded

    def _encode(
        self, delivery: "Delivery", prefix: str, version: Version, left: int | None
    ) -> tuple[bytes, bytes]:
        _, qos, retain, identifiers, _ = delivery
        name = own_topics.sent(prefix, self.topic)
        topic = name.encode()
        size = len(topic) + len(self.payload) + 2 * (qos > 0) + 2
        if version != V5 and size < _SHORT:  # most are like that; the topic was checked when it came
            head = _pack_head(0x30 | qos << 1 | retain, size, len(topic)) + topic
            return (head, self.payload) if qos else (head + self.payload, b"")
        properties = self.properties_for(prefix, identifiers, left) if version == V5 else {}
        packet = Publish(name, self.payload, qos, retain, False, 1, properties)
        return around_packet_id(encode_publish(packet, version), qos)

    def properties_for(self, prefix: str, identifiers: tuple[int, ...], left: int | None) -> Properties:
        properties = {key: value for key, value in self.properties.items() if key not in _OF_THE_CONNECTION}
        if self.relative_response and Property.RESPONSE_TOPIC in properties:
            properties[Property.RESPONSE_TOPIC] = prefix + properties[Property.RESPONSE_TOPIC]
        if left is not None:
            properties[Property.MESSAGE_EXPIRY_INTERVAL] = left
        if identifiers:
            properties[Property.SUBSCRIPTION_IDENTIFIER] = list(identifiers)
        return properties

    def seconds_left(self, now: float) -> int:
        """The Message Expiry Interval [MQTT-3.3.2-6]: 0 only for what has expired since it was first
        sent."""
        assert self.expires_at is not None
        return max(0 if self.expired(now) else 1, round(self.expires_at - now))


class Delivery(NamedTuple):
    """A message as one client is to get it. Clients that get it alike can share this, too.

    `qos` is the lower one of the publish and the subscription, `retain` the flag that the client is to see.
    `seq` is the number in the queue of a durable session; it is 0 at QoS 0 and for a clean session.
    """

    message: OutgoingMessage
    qos: int
    retain: bool = False
    identifiers: tuple[int, ...] = ()
    seq: int = 0


def around_packet_id(data: bytes, qos: int) -> tuple[bytes, bytes]:
    """The parts of a PUBLISH before and behind its packet id."""
    if not qos:
        return data, b""
    topic = 2  # behind the first byte and the remaining length
    while data[topic - 1] & 0x80:
        topic += 1
    packet_id = topic + 2 + (data[topic] << 8 | data[topic + 1])
    return data[:packet_id], data[packet_id + 2 :]
