"""MQTT packets as plain values, for MQTT 3.1, 3.1.1 and 5, whichever side sent them.

Sections and [MQTT-x.y.z-n] in this package refer to the OASIS specifications of MQTT 3.1.1 and MQTT 5.
"""

from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeAlias

Properties = dict[int, Any]

CONNECT: Final = 1
CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7
SUBSCRIBE: Final = 8
SUBACK: Final = 9
UNSUBSCRIBE: Final = 10
UNSUBACK: Final = 11
PINGREQ: Final = 12
PINGRESP: Final = 13
DISCONNECT: Final = 14
AUTH: Final = 15


class Version(IntEnum):
    """Protocol level, as CONNECT carries it."""

    V31 = 3
    V311 = 4
    V5 = 5


V31: Final = Version.V31
V311: Final = Version.V311
V5: Final = Version.V5


class ReasonCode(IntEnum):
    """MQTT 5, section 2.4."""

    SUCCESS = 0x00
    NORMAL_DISCONNECTION = 0x00
    GRANTED_QOS_0 = 0x00
    GRANTED_QOS_1 = 0x01
    GRANTED_QOS_2 = 0x02
    DISCONNECT_WITH_WILL_MESSAGE = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    CONTINUE_AUTHENTICATION = 0x18
    RE_AUTHENTICATE = 0x19
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_IN_USE = 0x91
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    MESSAGE_RATE_TOO_HIGH = 0x96
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    PAYLOAD_FORMAT_INVALID = 0x99
    RETAIN_NOT_SUPPORTED = 0x9A
    QOS_NOT_SUPPORTED = 0x9B
    USE_ANOTHER_SERVER = 0x9C
    SERVER_MOVED = 0x9D
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    CONNECTION_RATE_EXCEEDED = 0x9F
    MAXIMUM_CONNECT_TIME = 0xA0
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2


class ProtocolError(Exception):
    """The other side (or our own packet) breaks the specification; the connection has to end.

    `version` is known only for a CONNECT whose protocol level was readable: in it the CONNACK is written.
    """

    def __init__(self, reason: ReasonCode, sentence: str, version: Version | None = None) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.version = version


class Will(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties


class Connect(NamedTuple):
    version: Version
    client_id: str
    clean_start: bool
    keep_alive: int
    username: str | None
    password: bytes | None
    will: Will | None
    properties: Properties
    bridge: bool = False  # a broker, to which what it publishes is not to come back


class ConnAck(NamedTuple):
    """`code` is a return code (0 to 5) in MQTT 3, a reason code in MQTT 5."""

    session_present: bool
    code: int
    properties: Properties


class Publish(NamedTuple):
    """`packet_id` is 0 at QoS 0; `topic` is "" only beside a Topic Alias."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    properties: Properties


class Ack(NamedTuple):
    """`type` is PUBACK, PUBREC, PUBREL or PUBCOMP; `code` is always 0 in MQTT 3."""

    type: int
    packet_id: int
    code: int
    properties: Properties


class Subscription(NamedTuple):
    """The last three fields exist in MQTT 5 only."""

    filter: str
    qos: int
    no_local: bool
    retain_as_published: bool
    retain_handling: int


class Subscribe(NamedTuple):
    packet_id: int
    subscriptions: list[Subscription]
    properties: Properties


class SubAck(NamedTuple):
    packet_id: int
    codes: list[int]
    properties: Properties


class Unsubscribe(NamedTuple):
    packet_id: int
    filters: list[str]
    properties: Properties


class UnsubAck(NamedTuple):
    """`codes` is empty in MQTT 3."""

    packet_id: int
    codes: list[int]
    properties: Properties


class PingReq(NamedTuple):
    pass


class PingResp(NamedTuple):
    pass


class Disconnect(NamedTuple):
    code: int
    properties: Properties


class Auth(NamedTuple):
    code: int
    properties: Properties


Packet: TypeAlias = (
    Connect
    | ConnAck
    | Publish
    | Ack
    | Subscribe
    | SubAck
    | Unsubscribe
    | UnsubAck
    | PingReq
    | PingResp
    | Disconnect
    | Auth
)


def valid_topic_name(name: str) -> bool:
    """Section 4.7. Control characters are accepted: the specifications only advise against them."""
    return _is_mqtt_string(name) and "+" not in name and "#" not in name


def valid_topic_filter(filter_: str) -> bool:
    """Section 4.7; "$share/<group>/<filter>" by 4.8.2 of MQTT 5, which brokers apply to MQTT 3.1.1 too."""
    if not _is_mqtt_string(filter_):
        return False
    if filter_.startswith("$share/"):
        group, _, filter_ = filter_[7:].partition("/")
        if not group or not filter_ or "+" in group or "#" in group:
            return False
    *parents, last = filter_.split("/")
    return all(_valid_level(level) for level in parents) and (last == "#" or _valid_level(last))


def topic_matches(filter_: str, topic: str) -> bool:
    """Whether a valid filter (shared or not) matches a valid topic name."""
    if filter_.startswith("$share/"):
        filter_ = filter_.split("/", 2)[2]
    if topic.startswith("$") and filter_.startswith(("+", "#")):  # [MQTT-4.7.2-1]
        return False
    wanted, levels = filter_.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index == len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


def _valid_level(level: str) -> bool:
    return level == "+" or ("+" not in level and "#" not in level)


def _is_mqtt_string(text: str) -> bool:
    try:
        return 0 < len(text.encode()) <= 0xFFFF and "\0" not in text
    except UnicodeEncodeError:
        return False
