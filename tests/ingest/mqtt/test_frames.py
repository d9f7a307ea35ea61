"""FrameReader: however a stream is cut, the same packets come out; what cannot be a packet ends it."""

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.mqtt.codec import FrameReader
from ingest.mqtt.packets import ProtocolError, ReasonCode

CI = settings(derandomize=True, database=None, deadline=None, max_examples=150)
PING = b"\xc0\x00"


def collect(reader: FrameReader, parts: list[bytes]) -> tuple[list[tuple[int, bytes]], ReasonCode | None]:
    """Every frame, and the reason for which the stream ended."""
    found: list[tuple[int, bytes]] = []
    try:
        for part in [*parts, b""]:
            found += reader.feed(part)
    except ProtocolError as error:
        return found, error.reason
    return found, None


def length_of(size: int) -> bytes:
    """Remaining Length by section 2.2.3, written independently of the codec."""
    out = [size % 128]
    while size := size // 128:
        out[-1] += 128
        out.append(size % 128)
    return bytes(out)


@pytest.mark.parametrize(
    ("size", "length"),
    [
        (0, b"\x00"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (16_383, b"\xff\x7f"),
        (16_384, b"\x80\x80\x01"),
        (2_097_151, b"\xff\xff\x7f"),
        (2_097_152, b"\x80\x80\x80\x01"),
    ],
)
def test_remaining_length_at_the_edges_of_table_2_4(size: int, length: bytes) -> None:
    assert length == length_of(size)
    reader = FrameReader(1 << 22)
    assert reader.feed(b"\x30" + length + bytes(size) + PING) == [(0x30, bytes(size)), (0xC0, b"")]
    assert reader.buffered == 0


def test_remainder_is_kept() -> None:
    reader = FrameReader(100)
    assert reader.feed(b"") == []
    assert reader.feed(PING + b"\x30") == [(0xC0, b"")]
    assert reader.buffered == 1
    assert reader.feed(b"\x03ab") == []
    assert reader.buffered == 4
    assert reader.feed(b"") == []
    assert reader.feed(b"c\xd0") == [(0x30, b"abc")]
    assert reader.buffered == 1
    assert reader.feed(b"\x00") == [(0xD0, b"")]
    assert reader.buffered == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x30\xff\xff\xff\xff\x01", id="five-bytes"),
        pytest.param(b"\x30\x80\x80\x80\x80", id="four-bytes-that-ask-for-a-fifth"),
        pytest.param(b"\x30\x80\x00", id="0-in-two-bytes-MQTT-1.5.5-1"),
        pytest.param(b"\x30\x81\x80\x00", id="1-in-three-bytes-MQTT-1.5.5-1"),
        pytest.param(b"\x30\xff\xff\xff\x00", id="three-bytes-in-four-MQTT-1.5.5-1"),
    ],
)
def test_malformed_length(data: bytes) -> None:
    for parts in ([data], [data[i : i + 1] for i in range(len(data))]):
        assert collect(FrameReader(1 << 28), parts) == ([], ReasonCode.MALFORMED_PACKET)


def test_too_large_is_refused_without_its_body() -> None:
    reader = FrameReader(127)
    assert reader.feed(b"\x30\x7f" + bytes(127)) == [(0x30, bytes(127))]
    assert reader.feed(b"\x30\x80") == []
    with pytest.raises(ProtocolError) as caught:
        reader.feed(b"\x01")
    assert caught.value.reason is ReasonCode.PACKET_TOO_LARGE
    assert str(caught.value) == "A packet of 128 bytes is larger than the limit of 127."
    assert reader.buffered == 0


@pytest.mark.parametrize("bad", [b"\x30\xff\xff\xff\xff\x01", b"\x30\x80\x00", b"\x30\x65" + bytes(101)])
def test_frames_before_a_bad_one_come_first(bad: bytes) -> None:
    reader = FrameReader(100)
    assert reader.feed(b"\x40\x02\x00\x01" + PING + bad + PING) == [(0x40, b"\x00\x01"), (0xC0, b"")]
    for data in (b"", PING, b""):
        with pytest.raises(ProtocolError):
            reader.feed(data)
        assert reader.buffered == 0


bodies = st.one_of(st.binary(max_size=20), st.integers(120, 300).map(bytes))
frames = st.lists(st.tuples(st.integers(0, 255), bodies), max_size=12)


@CI
@given(frames, st.lists(st.integers(0, 3000), max_size=12))
def test_any_cut_gives_the_same_frames(expected: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(bytes((first,)) + length_of(len(body)) + body for first, body in expected)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader(300)
    assert collect(reader, [stream[start:end] for start, end in pairwise(edges)]) == (expected, None)
    assert reader.buffered == 0


@CI
@given(st.binary(max_size=400), st.integers(1, 50))
def test_garbage_cut_anywhere_gives_the_frames_of_the_whole(data: bytes, step: int) -> None:
    parts = [data[i : i + step] for i in range(0, len(data), step)]
    assert collect(FrameReader(60), [data]) == collect(FrameReader(60), parts)


def cpu_seconds(parts: list[bytes], expected: int) -> float:
    reader = FrameReader(1 << 20)
    start = time.process_time()
    assert sum(len(reader.feed(part)) for part in parts) == expected
    return time.process_time() - start


def test_one_byte_at_a_time_is_linear() -> None:
    """Takes 0.1 s; half a minute if each byte had the others copied."""
    packet = b"\x30" + length_of(1 << 19) + bytes(1 << 19)
    assert cpu_seconds([packet[i : i + 1] for i in range(len(packet))], 1) < 4


def test_many_packets_in_one_chunk_are_linear() -> None:
    """Takes 0.1 s; half a minute if each packet had the rest copied."""
    assert cpu_seconds([b"\x40\x02\x00\x01" * 250_000], 250_000) < 4
