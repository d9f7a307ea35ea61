"""Table 2-6 of MQTT 5: each of the 256 codes in each packet that carries one, and the same for MQTT 3."""

import pytest

from ingest.mqtt.codec import decode
from ingest.mqtt.packets import V5, V31, V311, ProtocolError, ReasonCode, Version

PUBLISHED = "00 10 80 83 87 90 91 97 99"
LEFT = "00 04 80 81 82 83 87 89 8B 8C 8D 8E 8F 90 93 94 95 96 97 98 99 9A 9B 9C 9D 9E 9F A0 A1 A2"
CASES = [
    (
        "connack",
        V5,
        0x20,
        b"\x00",
        b"\x00",
        "00 80 81 82 83 84 85 86 87 88 89 8A 8C 90 95 97 99 9A 9B 9C 9D 9F",
    ),
    ("puback", V5, 0x40, b"\x00\x01", b"", PUBLISHED),
    ("pubrec", V5, 0x50, b"\x00\x01", b"", PUBLISHED),
    ("pubrel", V5, 0x62, b"\x00\x01", b"", "00 92"),
    ("pubcomp", V5, 0x70, b"\x00\x01", b"", "00 92"),
    ("suback", V5, 0x90, b"\x00\x01\x00", b"", "00 01 02 80 83 87 8F 91 97 9E A1 A2"),
    ("unsuback", V5, 0xB0, b"\x00\x01\x00", b"", "00 11 80 83 87 8F 91"),
    ("disconnect", V5, 0xE0, b"", b"", LEFT),
    ("auth", V5, 0xF0, b"", b"\x04\x15\x00\x01m", "00 18 19"),
    ("connack", V31, 0x20, b"\x00", b"", "00 01 02 03 04 05"),
    ("connack", V311, 0x20, b"\x00", b"", "00 01 02 03 04 05"),
    ("suback", V31, 0x90, b"\x00\x01", b"", "00 01 02 80"),
    ("suback", V311, 0x90, b"\x00\x01", b"", "00 01 02 80"),
]


def accepts(first: int, body: bytes, version: Version) -> bool:
    try:
        decode(first, body, version)
    except ProtocolError:
        return False
    return True


@pytest.mark.parametrize(
    ("version", "first", "before", "after", "codes"),
    [pytest.param(*case[1:], id=f"{case[1].name}-{case[0]}") for case in CASES],
)
def test_codes(version: Version, first: int, before: bytes, after: bytes, codes: str) -> None:
    accepted = [code for code in range(256) if accepts(first, before + bytes((code,)) + after, version)]
    assert accepted == list(bytes.fromhex(codes))


def test_every_code_has_a_name() -> None:
    used = b"".join(bytes.fromhex(case[-1]) for case in CASES if case[1] == V5)
    assert set(ReasonCode) == set(used)
