"""How messages are kept in the queues of sessions: as PUBLISH packets of MQTT 5, topics without the token."""

from collections.abc import Iterator

from ingest.message import Kept
from ingest.mqtt.codec import FrameReader, decode_publish
from ingest.mqtt.packets import PUBLISH, V5, Publish
from ingest.mqtt.wire import write_frame, write_text

MAX_PACKET = 2**28


def stored_packet(kept: Kept, payload: bytes) -> bytes:
    """A PUBLISH packet of MQTT 5; its packet id has no meaning."""
    head = write_text(kept.topic) + (b"\0\1" if kept.qos else b"") + kept.properties
    return write_frame(PUBLISH << 4 | kept.qos << 1 | kept.retain, head + payload)


def read_packets(packets: bytes, count: int) -> Iterator[Publish]:
    """The first so many."""
    for first, body in FrameReader(MAX_PACKET).feed(packets)[:count]:
        yield decode_publish(first, body, V5)
