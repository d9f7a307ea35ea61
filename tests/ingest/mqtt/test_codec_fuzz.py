"""Generated packets go there and back; generated and damaged bytes raise nothing but ProtocolError."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy, builds, just

from ingest.mqtt.codec import FrameReader, decode, encode, encode_ack
from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    V31,
    V311,
    Ack,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Properties,
    ProtocolError,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Version,
    Will,
    valid_topic_filter,
    valid_topic_name,
)
from ingest.mqtt.properties import Property as P

pytestmark = pytest.mark.slow
CI = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
LEVELS = [V31, V311, V5]

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
blob = st.binary(max_size=140)
topic = text.filter(valid_topic_name)
levels = st.sampled_from(["a", "b", "", "+", "$share", "ä"])
filters = (
    st.lists(levels, min_size=1, max_size=4).map("/".join).flatmap(lambda f: st.sampled_from([f, f + "/#"]))
)
filters = filters.filter(valid_topic_filter)
flag, qos, packet_id = st.integers(0, 1), st.integers(0, 2), st.integers(1, 0xFFFF)
u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)
pairs = st.lists(st.tuples(text, text), min_size=1, max_size=3)
identifiers = st.integers(1, 268_435_455)

REASON: dict[int, SearchStrategy[Any]] = {P.REASON_STRING: text, P.USER_PROPERTY: pairs}
MESSAGE: dict[int, SearchStrategy[Any]] = {
    P.PAYLOAD_FORMAT_INDICATOR: flag,
    P.MESSAGE_EXPIRY_INTERVAL: u32,
    P.CONTENT_TYPE: text,
    P.RESPONSE_TOPIC: topic,
    P.CORRELATION_DATA: blob,
    P.USER_PROPERTY: pairs,
}
LIMITS: dict[int, SearchStrategy[Any]] = {
    P.SESSION_EXPIRY_INTERVAL: u32,
    P.RECEIVE_MAXIMUM: packet_id,
    P.TOPIC_ALIAS_MAXIMUM: u16,
    P.MAXIMUM_PACKET_SIZE: st.integers(1, 0xFFFF_FFFF),
    P.USER_PROPERTY: pairs,
}
REQUESTS: dict[int, SearchStrategy[Any]] = {
    **LIMITS,
    P.REQUEST_PROBLEM_INFORMATION: flag,
    P.REQUEST_RESPONSE_INFORMATION: flag,
}
OFFERS: dict[int, SearchStrategy[Any]] = {
    **LIMITS,
    **REASON,
    P.MAXIMUM_QOS: flag,
    P.RETAIN_AVAILABLE: flag,
    P.SERVER_KEEP_ALIVE: u16,
    P.SERVER_REFERENCE: text,
}


def some(optional: dict[int, SearchStrategy[Any]], version: Version) -> SearchStrategy[Properties]:
    return st.fixed_dictionaries({}, optional=optional) if version == V5 else just({})


def with_method(optional: dict[int, SearchStrategy[Any]]) -> SearchStrategy[Properties]:
    return st.fixed_dictionaries(
        {P.AUTHENTICATION_METHOD: text}, optional={**optional, P.AUTHENTICATION_DATA: blob}
    )


def publishes(version: Version) -> SearchStrategy[Publish]:
    properties = some(
        {
            **MESSAGE,
            P.TOPIC_ALIAS: packet_id,
            P.SUBSCRIPTION_IDENTIFIER: st.lists(identifiers, min_size=1, max_size=3),
        },
        version,
    )
    sure = builds(
        Publish, topic, blob, st.integers(1, 2), st.booleans(), st.booleans(), packet_id, properties
    )
    loose = builds(Publish, topic, blob, just(0), st.booleans(), just(False), just(0), properties)
    return sure | loose


def connects(version: Version) -> SearchStrategy[Connect]:
    wills = builds(
        Will, topic, blob, qos, st.booleans(), some({**MESSAGE, P.WILL_DELAY_INTERVAL: u32}, version)
    )
    return builds(
        Connect,
        just(version),
        text if version == V5 else text.filter(bool),
        st.booleans(),
        u16,
        st.none() | text,
        st.none() | blob,
        st.none() | wills,
        some(REQUESTS, version) | with_method(REQUESTS) if version == V5 else just({}),
        st.booleans() if version != V5 else just(False),
    ).filter(lambda packet: version == V5 or packet.username is not None or packet.password is None)


def connacks(version: Version) -> SearchStrategy[ConnAck]:
    accepted = builds(
        ConnAck, st.booleans() if version != V31 else just(False), just(0), some(OFFERS, version)
    )
    refused = st.sampled_from([0x80, 0x84, 0x9F]) if version == V5 else st.integers(1, 5)
    return accepted | builds(ConnAck, just(False), refused, some(OFFERS, version))


def acks(version: Version) -> SearchStrategy[Ack]:
    received = st.sampled_from([0, 0x10, 0x80, 0x99]) if version == V5 else just(0)
    released = st.sampled_from([0, 0x92]) if version == V5 else just(0)
    first = builds(Ack, st.sampled_from([PUBACK, PUBREC]), packet_id, received, some(REASON, version))
    return first | builds(Ack, st.sampled_from([PUBREL, PUBCOMP]), packet_id, released, some(REASON, version))


def subscription_packets(version: Version) -> SearchStrategy[Packet]:
    new = st.booleans() if version == V5 else just(False)
    handling = qos if version == V5 else just(0)
    one = builds(Subscription, filters, qos, new, new, handling)
    one = one.filter(lambda s: not (s.no_local and s.filter.startswith("$share/")))
    request = some(
        {P.USER_PROPERTY: pairs, P.SUBSCRIPTION_IDENTIFIER: st.tuples(identifiers).map(list)}, version
    )
    codes = st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=1)
    gone = st.lists(st.sampled_from([0, 0x11, 0x87]), min_size=1) if version == V5 else just([])
    return st.one_of(
        builds(Subscribe, packet_id, st.lists(one, min_size=1, max_size=4), request),
        builds(SubAck, packet_id, codes, some(REASON, version)),
        builds(
            Unsubscribe, packet_id, st.lists(filters, min_size=1), some({P.USER_PROPERTY: pairs}, version)
        ),
        builds(UnsubAck, packet_id, gone, some(REASON, version)),
    )


def packets(version: Version) -> SearchStrategy[Packet]:
    ends = {**REASON, P.SESSION_EXPIRY_INTERVAL: u32, P.SERVER_REFERENCE: text}
    leaving = st.sampled_from([0, 4, 0x80, 0x8E, 0xA2]) if version == V5 else just(0)
    common: list[SearchStrategy[Packet]] = [
        connects(version),
        connacks(version),
        publishes(version),
        acks(version),
        subscription_packets(version),
        st.sampled_from([PingReq(), PingResp()]),
        builds(Disconnect, leaving, some(ends, version)),
    ]
    auths = builds(Auth, st.sampled_from([0, 0x18, 0x19]), with_method(REASON)) | just(Auth(0, {}))
    return st.one_of(*common, auths) if version == V5 else st.one_of(*common)


any_version = st.sampled_from(LEVELS)
any_packet = any_version.flatmap(lambda version: st.tuples(just(version), packets(version)))


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    return FrameReader(1 << 20).feed(data)


def try_decode(first: int, body: bytes, version: Version) -> Packet | None:
    """What decodes is also what encode accepts, and means the same again."""
    try:
        packet = decode(first, body, version)
    except ProtocolError:
        return None
    version = packet.version if isinstance(packet, Connect) else version
    ((first, body),) = frames_of(encode(packet, version))
    assert decode(first, body, version) == packet
    return packet


@pytest.mark.parametrize("version", LEVELS)
def test_there_and_back(version: Version) -> None:
    @settings(CI, max_examples=400)
    @given(packets(version))
    def check(packet: Packet) -> None:
        ((first, body),) = frames_of(encode(packet, version))
        found = decode(first, body, version)
        assert found == packet
        assert type(found) is type(packet)

    check()


@settings(CI, max_examples=100)
@given(acks(V5), any_version)
def test_encode_ack_is_encode_without_properties(ack: Ack, version: Version) -> None:
    plain = ack._replace(properties={})
    assert encode_ack(plain.type, plain.packet_id, plain.code, version) == encode(plain, version)


@settings(CI, max_examples=1500)
@given(st.integers(0, 255), st.binary(max_size=60), any_version)
def test_any_bytes_decode_or_raise_protocol_error(first: int, body: bytes, version: Version) -> None:
    try_decode(first, body, version)


@settings(CI, max_examples=300)
@given(st.lists(st.binary(max_size=30), max_size=20))
def test_any_stream_ends_in_frames_or_a_protocol_error(chunks: list[bytes]) -> None:
    reader, taken = FrameReader(50), 0
    try:
        for chunk in chunks:
            taken += sum(2 + len(body) for _, body in reader.feed(chunk))
    except ProtocolError:
        assert reader.buffered == 0
    assert taken + reader.buffered <= sum(map(len, chunks))


@settings(CI, max_examples=120)
@given(any_packet, st.integers(1, 255))
def test_every_single_byte_mutation_decodes_or_raises_protocol_error(
    case: tuple[Version, Packet], change: int
) -> None:
    version, packet = case
    data = encode(packet, version)
    for index in range(len(data)):
        damaged = bytearray(data)
        damaged[index] ^= change
        try:
            frames = frames_of(bytes(damaged))
        except ProtocolError:
            continue
        for first, body in frames:
            try_decode(first, body, version)


@settings(CI, max_examples=120)
@given(any_packet)
def test_every_shorter_body_decodes_or_raises_protocol_error(case: tuple[Version, Packet]) -> None:
    version, packet = case
    ((first, body),) = frames_of(encode(packet, version))
    for size in range(len(body)):
        try_decode(first, body[:size], version)


@settings(CI, max_examples=100)
@given(st.lists(st.tuples(packets(V5)), max_size=6), st.integers(1, 40))
def test_a_stream_of_packets_cut_anywhere(items: list[tuple[Packet]], step: int) -> None:
    sent = [packet for (packet,) in items]
    stream = b"".join(encode(packet, V5) for packet in sent)
    reader = FrameReader(1 << 20)
    found = [frame for i in range(0, len(stream), step) for frame in reader.feed(stream[i : i + step])]
    assert [decode(first, body, V5) for first, body in found] == sent


@settings(CI, max_examples=300)
@given(st.binary(max_size=40), st.sampled_from([0x30, 0x31, 0x32, 0x3D]), any_version)
def test_a_decoded_topic_is_always_valid(body: bytes, first: int, version: Version) -> None:
    packet = try_decode(first, b"\0" + body, version)
    if packet is not None:
        assert isinstance(packet, Publish)
        assert valid_topic_name(packet.topic) or (version == V5 and P.TOPIC_ALIAS in packet.properties)
