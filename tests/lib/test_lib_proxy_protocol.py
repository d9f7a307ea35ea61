"""The PROXY header: what it says, however it arrives, and what is none."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingscale.lib.proxy_protocol import MAX_LINE, MAX_SIZE, Address, BadHeader, Header, read

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = ip_address("192.0.2.1").packed + ip_address("198.51.100.2").packed + struct.pack(">HH", 56324, 1883)
V6 = ip_address("2001:db8::1").packed + ip_address("2001:db8::2").packed + struct.pack(">HH", 56324, 1883)
MAPPED = ip_address("::ffff:192.0.2.1").packed + ip_address("::1").packed + struct.pack(">HH", 1, 2)
UNIX = b"/run/client.sock".ljust(108, b"\0") * 2


def binary(command: int, family: int, rest: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack(">BBH", command, family, len(rest) if length is None else length) + rest


def option(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


CLIENT: Address = ("192.0.2.1", 56324)
TLS = option(0x01, b"mqtt") + option(0x20, b"\x01\0\0\0\0" + option(0x21, b"TLSv1.3")) + option(4, b"")
GOOD: dict[str, tuple[bytes, Address | None, bool]] = {
    "v1 TCP4": (b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 1883\r\n", ("192.0.2.1", 56324), False),
    "v1 TCP4, largest": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        ("255.255.255.255", 65535),
        False,
    ),
    "v1 TCP4, smallest port": (b"PROXY TCP4 1.2.3.4 0.0.0.0 0 0\r\n", ("1.2.3.4", 0), False),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::1 ::1 56324 1883\r\n", ("2001:db8::1", 56324), False),
    "v1 TCP6 of an IPv4 client": (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", ("192.0.2.1", 1), False),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None, False),
    "v1 unknown, with what nobody needs": (b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n", None, False),
    "v1 unknown, longest": (b"PROXY UNKNOWN ".ljust(MAX_LINE - 2, b"x") + b"\r\n", None, False),
    "v2 TCP4": (binary(0x21, 0x11, V4), ("192.0.2.1", 56324), False),
    "v2 TCP6": (binary(0x21, 0x21, V6), ("2001:db8::1", 56324), False),
    "v2 TCP6 of an IPv4 client": (binary(0x21, 0x21, MAPPED), ("192.0.2.1", 1), False),
    "v2 unix": (binary(0x21, 0x31, UNIX), None, False),
    "v2 unspecified": (binary(0x21, 0x00, b""), None, False),
    "v2 unspecified, with something": (binary(0x21, 0x00, b"something"), None, False),
    "v2 UDP": (binary(0x21, 0x12, V4), None, False),
    "v2 local": (binary(0x20, 0x00, b""), None, False),
    "v2 local, with addresses": (binary(0x20, 0x11, V4), None, False),
    "v2 local, of a family that there is not": (binary(0x20, 0xFF, b"abc"), None, False),
    "v2 local, too short for its addresses": (binary(0x20, 0x21, b"abc"), None, False),
    "v2 with options": (binary(0x21, 0x11, V4 + option(0xE0, b"own") + option(3, b"crc.")), CLIENT, False),
    "v2 with TLS": (binary(0x21, 0x11, V4 + TLS), CLIENT, True),
    "v2 IPv6 with TLS": (binary(0x21, 0x21, V6 + TLS), ("2001:db8::1", 56324), True),
    "v2 without TLS": (binary(0x21, 0x11, V4 + option(0x20, b"\0\0\0\0\x01")), CLIENT, False),
    "v2 with half an option": (binary(0x21, 0x11, V4 + b"\x20\0"), CLIENT, False),
    "v2 with an option that is too long": (
        binary(0x21, 0x11, V4 + b"\4\xff\xff1"),
        CLIENT,
        False,
    ),
    "v2 largest": (binary(0x21, 0x11, V4.ljust(MAX_SIZE - 16, b"\0")), CLIENT, False),
}
BAD: dict[str, bytes] = {
    "MQTT": b"\x10\x0c\0\4MQTT\4\2\0\x3c\0\0",
    "HTTP": b"GET / HTTP/1.1\r\n",
    "HTTP's PROPFIND": b"PROPFIND / HTTP/1.1\r\n",
    "TLS": b"\x16\x03\x01\x02\0",
    "an empty line": b"\r\nGET",
    "lower case": b"proxy TCP4 ",
    "v1 UDP4": b"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
    "v1 nothing": b"PROXY \r\n",
    "v1 no addresses": b"PROXY TCP4\r\n",
    "v1 a field too few": b"PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
    "v1 a field too many": b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
    "v1 two blanks": b"PROXY TCP4 192.0.2.1  198.51.100.2 1 2\r\n",
    "v1 a blank at the end": b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
    "v1 IPv6 as IPv4": b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
    "v1 IPv4 as IPv6": b"PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
    "v1 a zone": b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    "v1 leading zeros": b"PROXY TCP4 192.000.002.001 198.51.100.2 1 2\r\n",
    "v1 a bad destination": b"PROXY TCP4 192.0.2.1 nowhere 1 2\r\n",
    "v1 a port with zeros": b"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
    "v1 a large port": b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 2\r\n",
    "v1 a negative port": b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 2\r\n",
    "v1 a bad destination port": b"PROXY TCP4 192.0.2.1 198.51.100.2 1 x\r\n",
    "v1 not ASCII": "PROXY TCP4 192.0.2.1 198.51.100.2 ١ 2\r\n".encode(),
    "v1 LF alone": b"PROXY UNKNOWN\n",
    "v1 CR alone": b"PROXY UNKNOWN\rGET",
    "v1 CR in the line": b"PROXY UNKNOWN a\rb\r\n",
    "v1 too long": b"PROXY UNKNOWN ".ljust(MAX_LINE - 1, b"x") + b"\r\n",
    "v1 endless": b"PROXY UNKNOWN ".ljust(MAX_LINE, b"x"),
    "v2 version 1": SIGNATURE + b"\x11",
    "v2 version 3": SIGNATURE + b"\x31",
    "v2 a command that there is not": SIGNATURE + b"\x22",
    "v2 a family that there is not": binary(0x21, 0x41, V4),
    "v2 a transport that there is not": binary(0x21, 0x13, V4),
    "v2 too short for IPv4": binary(0x21, 0x11, V4[:-1]),
    "v2 too short for IPv6": binary(0x21, 0x21, V4),
    "v2 too large": binary(0x21, 0x11, V4, MAX_SIZE - 15),
    "v2 far too large": binary(0x20, 0x00, b"", 65535),
    "v2 another signature": SIGNATURE[:-1] + b"\r",
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("behind", [b"", b"\x10\x0c\0\4MQTT", b"PROXY UNKNOWN\r\n", b"\r\n\n"])
def test_a_header_is_read_however_it_arrives(name: str, behind: bytes) -> None:
    data, client, tls = GOOD[name]
    for size in range(len(data)):
        assert read(data[:size]) is None
    assert read(data + behind) == Header(len(data), client, tls)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_refused_as_soon_as_it_can_be_none(name: str) -> None:
    for behind in (b"", b"\r\n", b"x" * 600):
        with pytest.raises(BadHeader) as refused:
            read(BAD[name] + behind)
        assert str(refused.value).endswith(".")


BEGINNINGS = [b"", b"PROXY ", b"PROXY TCP4 1.2.3.4 ", SIGNATURE, SIGNATURE + b"\x21\x11\0"]


@given(st.sampled_from(BEGINNINGS), st.binary(max_size=700))
def test_whatever_comes_it_is_a_header_or_none_or_too_short_for_one(begin: bytes, rest: bytes) -> None:
    data = begin + rest
    try:
        header = read(data)
    except BadHeader:
        return
    if header is None:
        assert len(data) < MAX_SIZE
        return
    assert 15 <= header.size <= min(len(data), MAX_SIZE)
    assert read(data[: header.size]) == header
    assert read(data[: header.size - 1]) is None
    if header.client:
        host, port = header.client
        assert str(ip_address(host)) == host
        assert 0 <= port < 2**16


@given(st.ip_addresses(), st.integers(0, 65535), st.booleans())
def test_both_versions_say_the_same_client(client: object, port: int, tls: bool) -> None:
    address = ip_address(str(client))
    wide = address.version == 6
    line = f"PROXY TCP{address.version} {address} {'::1' if wide else '127.0.0.1'} {port} 1883\r\n".encode()
    rest = address.packed + bytes(16 if wide else 4) + struct.pack(">HH", port, 1883) + (TLS if tls else b"")
    first, second = read(line), read(binary(0x21, 0x21 if wide else 0x11, rest))
    assert first
    assert second
    assert first.client == second.client
    assert second.tls is tls
    assert first.client
    shown = ip_address(first.client[0])
    assert shown in {address, getattr(address, "ipv4_mapped", None)}
