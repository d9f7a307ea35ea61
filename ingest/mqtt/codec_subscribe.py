"""SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (sections 3.8 to 3.11)."""

from typing import Final

from ingest.mqtt.packets import (
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    V5,
    V31,
    ProtocolError,
    ReasonCode,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Version,
    valid_topic_filter,
)
from ingest.mqtt.properties import read_properties, write_properties
from ingest.mqtt.wire import (
    Reader,
    check_code,
    malformed,
    violation,
    write_frame,
    write_packet_id,
    write_text,
)

_SUBACK_CODES: Final = frozenset((0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2))
_SUBACK_CODES_V3: Final = frozenset((0, 1, 2, 0x80))
_UNSUBACK_CODES: Final = frozenset((0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91))


def decode_subscribe(reader: Reader, version: Version) -> Subscribe:
    packet_id = reader.packet_id()
    properties = read_properties(reader, SUBSCRIBE) if version == V5 else {}
    subscriptions = []
    while reader:
        subscriptions.append(_subscription(_filter(reader), reader.byte(), version))
    _need(subscriptions, "SUBSCRIBE")
    return Subscribe(packet_id, subscriptions, properties)


def encode_subscribe(packet: Subscribe, version: Version) -> bytes:
    """MQTT 3 has no options beside the QoS: they are left out."""
    _need(packet.subscriptions, "SUBSCRIBE")
    body = write_packet_id(packet.packet_id)
    if version == V5:
        body += write_properties(packet.properties, SUBSCRIBE)
    for filter_, qos, no_local, as_published, handling in packet.subscriptions:
        _check_filter(filter_)
        if not 0 <= qos <= 2 or not 0 <= handling <= 2:
            raise violation("QoS and retain handling are 0, 1 or 2.")
        options = qos | no_local << 2 | as_published << 3 | handling << 4 if version == V5 else qos
        _subscription(filter_, options, version)
        body += write_text(filter_) + bytes((options,))
    return write_frame(SUBSCRIBE << 4 | 2, body)


def decode_suback(reader: Reader, version: Version) -> SubAck:
    packet_id = reader.packet_id()
    properties = read_properties(reader, SUBACK) if version == V5 else {}
    allowed = _SUBACK_CODES if version == V5 else _SUBACK_CODES_V3
    codes = [check_code(code, allowed) for code in reader.rest()]
    _need(codes, "SUBACK")
    return SubAck(packet_id, codes, properties)


def encode_suback(packet: SubAck, version: Version) -> bytes:
    """MQTT 3 has one failure code, 0x80, which stands for each of MQTT 5."""
    _need(packet.codes, "SUBACK")
    body = write_packet_id(packet.packet_id)
    if version == V5:
        body += write_properties(packet.properties, SUBACK) + _write_codes(packet.codes, _SUBACK_CODES)
    else:
        body += _write_codes([min(code, 0x80) for code in packet.codes], _SUBACK_CODES_V3)
    return write_frame(SUBACK << 4, body)


def decode_unsubscribe(reader: Reader, version: Version) -> Unsubscribe:
    packet_id = reader.packet_id()
    properties = read_properties(reader, UNSUBSCRIBE) if version == V5 else {}
    filters = []
    while reader:
        filters.append(_filter(reader))
    _need(filters, "UNSUBSCRIBE")
    return Unsubscribe(packet_id, filters, properties)


def encode_unsubscribe(packet: Unsubscribe, version: Version) -> bytes:
    _need(packet.filters, "UNSUBSCRIBE")
    body = write_packet_id(packet.packet_id)
    if version == V5:
        body += write_properties(packet.properties, UNSUBSCRIBE)
    for filter_ in packet.filters:
        _check_filter(filter_)
        body += write_text(filter_)
    return write_frame(UNSUBSCRIBE << 4 | 2, body)


def decode_unsuback(reader: Reader, version: Version) -> UnsubAck:
    packet_id = reader.packet_id()
    if version != V5:
        return UnsubAck(packet_id, [], {})
    properties = read_properties(reader, UNSUBACK)
    codes = [check_code(code, _UNSUBACK_CODES) for code in reader.rest()]
    _need(codes, "UNSUBACK")
    return UnsubAck(packet_id, codes, properties)


def encode_unsuback(packet: UnsubAck, version: Version) -> bytes:
    """MQTT 3 has no codes here: they are left out."""
    body = write_packet_id(packet.packet_id)
    if version == V5:
        _need(packet.codes, "UNSUBACK")
        body += write_properties(packet.properties, UNSUBACK) + _write_codes(packet.codes, _UNSUBACK_CODES)
    return write_frame(UNSUBACK << 4, body)


def _subscription(filter_: str, options: int, version: Version) -> Subscription:
    if version == V31:  # does not use the upper six bits
        options &= 0x03
    if options > (0x3F if version == V5 else 0x03):  # [MQTT-3.8.3-4], in MQTT 5 [MQTT-3.8.3-5]
        raise malformed("SUBSCRIBE has reserved option bits set.")
    qos, no_local, handling = options & 3, bool(options & 4), options >> 4
    if qos == 3 or handling == 3:
        raise violation("SUBSCRIBE asks for QoS 3 or retain handling 3.")
    if no_local and filter_.startswith("$share/"):  # [MQTT-3.8.3-4] of MQTT 5
        raise violation("SUBSCRIBE sets No Local on a shared subscription.")
    return Subscription(filter_, qos, no_local, bool(options & 8), handling)


def _filter(reader: Reader) -> str:
    filter_ = reader.text()
    _check_filter(filter_)
    return filter_


def _check_filter(filter_: str) -> None:
    if not valid_topic_filter(filter_):
        raise ProtocolError(ReasonCode.TOPIC_FILTER_INVALID, f"{filter_[:80]!r} is not a valid topic filter.")


def _write_codes(codes: list[int], allowed: frozenset[int]) -> bytes:
    return bytes(check_code(code, allowed) for code in codes)


def _need(items: list[str] | list[int] | list[Subscription], name: str) -> None:
    if not items:  # [MQTT-3.8.3-3], [MQTT-3.10.3-2]
        raise violation(f"{name} is empty.")
