"""MQTT packets <-> bytes, for MQTT 3.1, 3.1.1 and 5, in both directions.

What arrives: FrameReader cuts the stream, `decode` reads one frame. What leaves: `encode`.
Whatever a peer sends, the only exception is ProtocolError.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ingest.mqtt import codec_publish, codec_session, codec_subscribe
from ingest.mqtt.codec_publish import decode_publish, encode_ack
from ingest.mqtt.frames import FrameReader
from ingest.mqtt.packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    V5,
    V31,
    Ack,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Publish,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    Version,
    topic_matches,
    valid_topic_filter,
    valid_topic_name,
)
from ingest.mqtt.wire import Reader, malformed

__all__ = [
    "FrameReader",
    "decode",
    "decode_publish",
    "encode",
    "encode_ack",
    "topic_matches",
    "valid_topic_filter",
    "valid_topic_name",
]

_DECODERS: Final[dict[int, Callable[[Reader, Version], Packet]]] = {
    CONNECT: lambda reader, _version: codec_session.decode_connect(reader),
    CONNACK: codec_session.decode_connack,
    PUBACK: partial(codec_publish.decode_ack, PUBACK),
    PUBREC: partial(codec_publish.decode_ack, PUBREC),
    PUBREL: partial(codec_publish.decode_ack, PUBREL),
    PUBCOMP: partial(codec_publish.decode_ack, PUBCOMP),
    SUBSCRIBE: codec_subscribe.decode_subscribe,
    SUBACK: codec_subscribe.decode_suback,
    UNSUBSCRIBE: codec_subscribe.decode_unsubscribe,
    UNSUBACK: codec_subscribe.decode_unsuback,
    PINGREQ: lambda _reader, _version: PingReq(),
    PINGRESP: lambda _reader, _version: PingResp(),
    DISCONNECT: codec_session.decode_disconnect,
    AUTH: codec_session.decode_auth,
}
_ENCODERS: Final[dict[type[Packet], Callable[[Any, Version], bytes]]] = {
    Connect: lambda packet, _version: codec_session.encode_connect(packet),
    ConnAck: codec_session.encode_connack,
    Publish: codec_publish.encode_publish,
    Ack: codec_publish.encode_full_ack,
    Subscribe: codec_subscribe.encode_subscribe,
    SubAck: codec_subscribe.encode_suback,
    Unsubscribe: codec_subscribe.encode_unsubscribe,
    UnsubAck: codec_subscribe.encode_unsuback,
    PingReq: lambda _packet, _version: b"\xc0\0",
    PingResp: lambda _packet, _version: b"\xd0\0",
    Disconnect: codec_session.encode_disconnect,
    Auth: codec_session.encode_auth,
}
_FLAGGED: Final = (PUBREL, SUBSCRIBE, UNSUBSCRIBE)


def decode(first: int, body: bytes, version: Version) -> Packet:
    """A frame from FrameReader. For CONNECT, which names its own version, `version` is not used."""
    kind = first >> 4
    if kind == PUBLISH:
        return decode_publish(first, body, version)
    if kind not in _DECODERS or (kind == AUTH and version != V5):
        raise malformed(f"Packet type {kind} does not exist.")
    flags = first & 0x0F
    if version == V31 and kind in _FLAGGED:  # MQTT 3.1 may set DUP in a packet that is sent again
        flags &= ~0x08
    if flags != (0x02 if kind in _FLAGGED else 0):  # [MQTT-2.2.2-2] of 3.1.1, [MQTT-2.1.3-1] of MQTT 5
        raise malformed(f"Packet type {kind} has wrong flags in its first byte.")
    reader = Reader(body)
    packet = _DECODERS[kind](reader, version)
    reader.finish()
    return packet


def encode(packet: Packet, version: Version) -> bytes:
    """The whole packet with its fixed header. For CONNECT its own version counts.

    Properties, reason codes and options, which MQTT 3 does not have, are left out there. Raises ProtocolError
    for what `decode` would refuse, and for AUTH before MQTT 5.
    """
    return _ENCODERS[type(packet)](packet, version)
