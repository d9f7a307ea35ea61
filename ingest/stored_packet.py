"""How messages are kept in the queues of sessions: as PUBLISH packets of MQTT 5, topics without the token."""

from collections.abc import Callable, Iterator

from ingest import topics
from ingest.message import Kept
from ingest.mqtt.codec import FrameReader, decode_publish
from ingest.mqtt.packets import PUBLISH, V5, Publish, Will
from ingest.mqtt.properties import Property, write_properties
from ingest.mqtt.wire import write_frame, write_text

MAX_PACKET = 2**28
OWN_RESPONSE = "\1/"  # in place of the token of a stored response topic


def stored_packet(kept: Kept, payload: bytes) -> bytes:
    """A PUBLISH packet of MQTT 5; its packet id has no meaning."""
    head = write_text(kept.topic) + (b"\0\1" if kept.qos else b"") + kept.properties
    return write_frame(PUBLISH << 4 | kept.qos << 1 | kept.retain, head + payload)


def read_packets(packets: bytes, count: int) -> Iterator[Publish]:
    """The first so many."""
    for first, body in FrameReader(MAX_PACKET).feed(packets)[:count]:
        yield decode_publish(first, body, V5)


def own_response(topic: str, owner: Callable[[str], object]) -> str:
    """Takes the token off a response topic of the account. `owner` finds the owner of a token."""
    token, rest = topics.split(topic)
    return OWN_RESPONSE + rest if rest and owner(token) else topic


def stored_will(will: Will, name: str, owner: Callable[[str], object]) -> tuple[bytes, int]:
    """The packet, and the will's delay in seconds. `name` is the topic, relative to the account; `owner`
    finds the owner of a token."""
    properties = dict(will.properties)
    delay = properties.pop(Property.WILL_DELAY_INTERVAL, 0)
    if Property.RESPONSE_TOPIC in properties:
        properties[Property.RESPONSE_TOPIC] = own_response(properties[Property.RESPONSE_TOPIC], owner)
    written = write_properties(properties, PUBLISH)
    return stored_packet(Kept(name, will.qos, will.retain, written, (), None, 0, []), will.payload), delay
