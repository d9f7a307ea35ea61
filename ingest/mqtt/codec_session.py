"""CONNECT, CONNACK, DISCONNECT and AUTH (sections 3.1, 3.2, 3.14, 3.15): how a session starts and ends."""

from typing import Final

from ingest.mqtt.packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    V5,
    V31,
    V311,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Properties,
    ProtocolError,
    ReasonCode,
    Version,
    Will,
    valid_topic_name,
)
from ingest.mqtt.properties import WILL, Property, read_properties, write_properties
from ingest.mqtt.wire import (
    Reader,
    check_code,
    malformed,
    violation,
    write_binary,
    write_frame,
    write_text,
    write_u16,
)

_VERSIONS: Final = {("MQIsdp", 3): V31, ("MQTT", 4): V311, ("MQTT", 5): V5}
BRIDGE: Final = 0x80  # bit of the level
_NAMES: Final = {version: name for (name, _), version in _VERSIONS.items()}

_RESERVED, _CLEAN, _WILL, _WILL_RETAIN, _PASSWORD, _USERNAME = 0x01, 0x02, 0x04, 0x20, 0x40, 0x80
_WILL_QOS_AND_RETAIN: Final = 0x38

_CONNACK_CODES: Final = frozenset(
    (0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, *range(0x99, 0x9E), 0x9F)
)
_DISCONNECT_CODES: Final = frozenset(
    (0x00, 0x04, *range(0x80, 0x84), 0x87, 0x89, *range(0x8B, 0x91), *range(0x93, 0xA3))
)
_AUTH_CODES: Final = frozenset((0x00, 0x18, 0x19))
_RETURN_CODES: Final = {0x84: 1, 0x85: 2, 0x86: 4, 0x87: 5, 0x8A: 5, 0x8C: 5}  # else 3, server unavailable


def decode_connect(reader: Reader) -> Connect:
    name, level = reader.text(), reader.byte()
    bridge = level in {V31 | BRIDGE, V311 | BRIDGE}  # as mosquitto says that it is a bridge
    version = _VERSIONS.get((name, level & ~BRIDGE if bridge else level))
    if version is None:
        sentence = f"Protocol {name[:20]!r} level {level} is not supported."
        raise ProtocolError(ReasonCode.UNSUPPORTED_PROTOCOL_VERSION, sentence)
    try:
        return _read_connect(reader, version)._replace(bridge=bridge)
    except ProtocolError as error:
        error.version = version
        raise


def _read_connect(reader: Reader, version: Version) -> Connect:
    """The rest of the packet, behind the version."""
    flags, keep_alive = reader.byte(), reader.u16()
    _check_connect_flags(flags, version)
    properties = _read_v5(reader, version, CONNECT)
    _check_connect_properties(properties)
    client_id, clean = reader.text(), bool(flags & _CLEAN)
    _check_client_id(client_id, clean, version)
    will = None
    if flags & _WILL:
        will_properties = _read_v5(reader, version, WILL)
        topic, payload = reader.text(), reader.binary()
        _check_will_topic(topic)
        will = Will(topic, payload, flags >> 3 & 3, bool(flags & _WILL_RETAIN), will_properties)
    username = reader.text() if _present(reader, flags & _USERNAME, version) else None
    password = reader.binary() if _present(reader, flags & _PASSWORD, version) else None
    return Connect(version, client_id, clean, keep_alive, username, password, will, properties)


def encode_connect(packet: Connect) -> bytes:
    version, will = packet.version, packet.will
    flags = packet.clean_start * _CLEAN
    if will:
        if not 0 <= will.qos <= 2:
            raise malformed("The QoS of a will is 0, 1 or 2.")
        flags |= _WILL | will.qos << 3 | will.retain * _WILL_RETAIN
    flags |= (packet.username is not None) * _USERNAME | (packet.password is not None) * _PASSWORD
    _check_connect_flags(flags, version)
    _check_client_id(packet.client_id, packet.clean_start, version)
    parts = [
        write_text(_NAMES[version]),
        bytes((version | BRIDGE * (packet.bridge and version != V5), flags)),
        write_u16(packet.keep_alive),
    ]
    if version == V5:
        _check_connect_properties(packet.properties)
        parts.append(write_properties(packet.properties, CONNECT))
    parts.append(write_text(packet.client_id))
    if will:
        _check_will_topic(will.topic)
        if version == V5:
            parts.append(write_properties(will.properties, WILL))
        parts += write_text(will.topic), write_binary(will.payload)
    if packet.username is not None:
        parts.append(write_text(packet.username))
    if packet.password is not None:
        parts.append(write_binary(packet.password))
    return write_frame(CONNECT << 4, b"".join(parts))


def decode_connack(reader: Reader, version: Version) -> ConnAck:
    flags, code = reader.byte(), reader.byte()
    if version == V31:  # has no session present flag: the byte is "not used"
        flags = 0
    if flags > 1:  # [MQTT-3.2.2-1]
        raise malformed("CONNACK has reserved flags set.")
    _check_connack(bool(flags), code, version)
    return ConnAck(bool(flags), code, _read_v5(reader, version, CONNACK))


def encode_connack(packet: ConnAck, version: Version) -> bytes:
    """MQTT 3 has five codes of its own: reason codes of MQTT 5 are turned into the nearest of them."""
    present, code, properties = packet
    if version != V5 and code >= 0x80:
        code = _RETURN_CODES.get(code, 3)
    _check_connack(present, code, version)
    body = bytes((present and version != V31, code))
    if version == V5:
        body += write_properties(properties, CONNACK)
    return write_frame(CONNACK << 4, body)


def decode_disconnect(reader: Reader, version: Version) -> Disconnect:
    if version != V5 or not reader:
        return Disconnect(0, {})
    code = check_code(reader.byte(), _DISCONNECT_CODES)
    return Disconnect(code, read_properties(reader, DISCONNECT) if reader else {})


def encode_disconnect(packet: Disconnect, version: Version) -> bytes:
    """MQTT 3 knows no reasons: `code` is left out."""
    code, properties = packet
    if version != V5 or not (code or properties):
        return b"\xe0\0"
    body = bytes((check_code(code, _DISCONNECT_CODES),))
    if properties:
        body += write_properties(properties, DISCONNECT)
    return write_frame(DISCONNECT << 4, body)


def decode_auth(reader: Reader, _version: Version) -> Auth:
    if not reader:
        return Auth(0, {})
    code, properties = reader.byte(), read_properties(reader, AUTH)
    _check_auth(code, properties)
    return Auth(code, properties)


def encode_auth(packet: Auth, version: Version) -> bytes:
    code, properties = packet
    if version != V5:
        raise violation("AUTH exists in MQTT 5 only.")
    if not (code or properties):
        return b"\xf0\0"
    _check_auth(code, properties)
    return write_frame(AUTH << 4, bytes((code,)) + write_properties(properties, AUTH))


def _read_v5(reader: Reader, version: Version, kind: int) -> Properties:
    return read_properties(reader, kind) if version == V5 else {}


def _present(reader: Reader, flag: int, version: Version) -> bool:
    """MQTT 3.1 lets the remaining length take precedence over the user name and password flags."""
    return bool(flag) and (version != V31 or bool(reader))


def _check_connect_flags(flags: int, version: Version) -> None:
    if flags & _WILL and flags >> 3 & 3 == 3:  # [MQTT-3.1.2-14]
        raise malformed("CONNECT asks for a will with QoS 3.")
    if flags & _PASSWORD and not flags & _USERNAME and version != V5:  # [MQTT-3.1.2-22]
        raise violation("CONNECT has a password without a user name.")
    if version == V31:  # disregards what it does not use
        return
    if flags & _RESERVED:  # [MQTT-3.1.2-3]
        raise malformed("CONNECT has its reserved flag set.")
    if flags & _WILL_QOS_AND_RETAIN and not flags & _WILL:  # [MQTT-3.1.2-13], [MQTT-3.1.2-15]
        raise malformed("CONNECT has will flags without a will.")


def _check_client_id(client_id: str, clean: bool, version: Version) -> None:
    """[MQTT-3.1.3-8]. MQTT 3.1 sets a limit of 23 characters that its own clients ignore."""
    if client_id or version == V5 or (clean and version == V311):
        return
    raise ProtocolError(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "This CONNECT needs a client identifier.")


def _check_will_topic(topic: str) -> None:
    if not valid_topic_name(topic):
        raise ProtocolError(ReasonCode.TOPIC_NAME_INVALID, "The will has no valid topic name.")


def _check_connect_properties(properties: Properties) -> None:
    if Property.AUTHENTICATION_DATA in properties and Property.AUTHENTICATION_METHOD not in properties:
        raise violation("CONNECT has authentication data without an authentication method.")


def _check_connack(session_present: bool, code: int, version: Version) -> None:
    check_code(code, _CONNACK_CODES if version == V5 else range(6))
    if session_present and code:  # [MQTT-3.2.2-4]
        raise violation("CONNACK refuses the connection, but reports a session.")


def _check_auth(code: int, properties: Properties) -> None:
    check_code(code, _AUTH_CODES)
    if (code or properties) and Property.AUTHENTICATION_METHOD not in properties:
        raise violation("AUTH does not name its authentication method.")
