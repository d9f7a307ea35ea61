"""The header of the PROXY protocol, versions 1 and 2: a load balancer writes it in front of what its client
sends, to say who that is (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt)."""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

MAX_SIZE = 536  # bytes; room for addresses and for everything else that proxies tell
MAX_LINE = 107  # of version 1

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_NAME = b"PROXY "
_FIXED = struct.Struct(">12sBBH")  # signature, version and command, family and transport, length of the rest
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_ADDRESSES = {_TCP4: 4, _TCP6: 16}  # bytes of an address
_FAMILIES, _TRANSPORTS = 4, 3  # those that there are, from 0: unspecified, IPv4, IPv6, unix; TCP, UDP
_TLS, _BY_TLS = 0x20, 0x01  # a type, and a bit of its first byte

_KINDS: dict[str, type[IPv4Address | IPv6Address]] = {"TCP4": IPv4Address, "TCP6": IPv6Address}

Address = tuple[str, int]


class BadHeader(Exception):
    """This is no such header. The text is one sentence, and holds nothing of what was sent."""


class Header(NamedTuple):
    size: int  # bytes
    client: Address | None  # None: the proxy speaks for itself, or does not know
    tls: bool = False  # the client speaks TLS with the proxy


def read(data: bytes) -> Header | None:
    """The header that the data begin with; None while more of it has to come. Raises BadHeader as soon as it
    can be none."""
    if data.startswith(_NAME):
        return _read_line(data)
    if data.startswith(_SIGNATURE):
        return _read_binary(data)
    if _NAME.startswith(data) or _SIGNATURE.startswith(data):
        return None
    raise BadHeader("The connection does not begin with a PROXY header.")


def _read_line(data: bytes) -> Header | None:
    """Version 1, such as b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 1883\\r\\n"."""
    line, end, _ = data[:MAX_LINE].partition(b"\r\n")
    if b"\n" in line or b"\r" in line[:-1] or (end and b"\r" in line):
        raise BadHeader("A PROXY line ends with CR and LF.")
    if not end:
        if len(data) >= MAX_LINE:
            raise BadHeader(f"A PROXY line has {MAX_LINE} bytes at most.")
        return None
    size = len(line) + len(end)
    try:
        _, protocol, *fields = line.decode("ascii").split(" ")
        if protocol == "UNKNOWN":
            return Header(size, None)
        kind = _KINDS[protocol]
        source, destination, source_port, destination_port = fields
        kind(destination)
        _port(destination_port)
        if "%" in source + destination:
            raise ValueError
        return Header(size, (_host(kind(source)), _port(source_port)))
    except (ValueError, KeyError):
        raise BadHeader("A PROXY line names a protocol, two addresses and two ports.") from None


def _port(text: str) -> int:
    port = int(text)
    if str(port) != text or not 0 <= port < 2**16:
        raise ValueError
    return port


def _read_binary(data: bytes) -> Header | None:
    """Version 2."""
    if len(data) > 12 and data[12] not in {_LOCAL, _PROXY}:
        raise BadHeader("A PROXY header is of version 2, and its command LOCAL or PROXY.")
    if len(data) < _FIXED.size:
        return None
    _, command, family, length = _FIXED.unpack_from(data)
    size = _FIXED.size + length
    if size > MAX_SIZE:
        raise BadHeader(f"A PROXY header has {MAX_SIZE} bytes at most.")
    if command == _PROXY and (family >> 4 >= _FAMILIES or family & 15 >= _TRANSPORTS):
        raise BadHeader("A PROXY header names a family of addresses that there is not.")
    width = _ADDRESSES.get(family, 0) if command == _PROXY else 0
    first_option = _FIXED.size + 2 * width + 4
    if width and size < first_option:
        raise BadHeader("A PROXY header is too short for its addresses.")
    if len(data) < size:
        return None
    if not width:
        return Header(size, None)
    source = _host(ip_address(data[_FIXED.size : _FIXED.size + width]))
    (port,) = struct.unpack_from(">H", data, _FIXED.size + 2 * width)
    options = data[first_option:size]  # a type, a length and as many bytes each
    while len(options) >= 3:
        kind, length = struct.unpack_from(">BH", options)
        value, options = options[3 : 3 + length], options[3 + length :]
        if kind == _TLS and value:
            return Header(size, (source, port), bool(value[0] & _BY_TLS))
    return Header(size, (source, port))


def _host(address: IPv4Address | IPv6Address) -> str:
    """A proxy that listens for both writes IPv4 clients as IPv6."""
    return str((isinstance(address, IPv6Address) and address.ipv4_mapped) or address)
