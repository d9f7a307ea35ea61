"""The data types of MQTT (section 1.5): how each is read and written."""

from collections.abc import Container
from struct import Struct
from typing import Final, Self

from ingest.mqtt.packets import ProtocolError, ReasonCode

MAX_VARINT: Final = 268_435_455

_U16: Final = Struct(">H")
_U32: Final = Struct(">I")


def malformed(sentence: str) -> ProtocolError:
    return ProtocolError(ReasonCode.MALFORMED_PACKET, sentence)


def violation(sentence: str) -> ProtocolError:
    return ProtocolError(ReasonCode.PROTOCOL_ERROR, sentence)


class Reader:
    """A cursor over body[pos:end]; whatever would pass `end` is malformed."""

    __slots__ = ("body", "end", "pos")

    def __init__(self, body: bytes, pos: int = 0, end: int | None = None) -> None:
        self.body = body
        self.pos = pos
        self.end = len(body) if end is None else end

    def __bool__(self) -> bool:
        """Whether anything is left to read."""
        return self.pos < self.end

    def finish(self) -> None:
        if self.pos < self.end:
            raise malformed(f"{self.end - self.pos} bytes follow the end of the packet.")

    def take(self, size: int) -> bytes:
        start = self.pos
        if start + size > self.end:
            raise malformed(f"The packet ends within a field of {size} bytes.")
        self.pos = start + size
        return self.body[start : self.pos]

    def rest(self) -> bytes:
        return self.take(self.end - self.pos)

    def part(self, size: int) -> Self:
        """A reader of the next `size` bytes, which this one skips."""
        start = self.pos
        self.take(size)
        return type(self)(self.body, start, self.pos)

    def byte(self) -> int:
        pos = self.pos
        if pos >= self.end:
            raise malformed("The packet ends too early.")
        self.pos = pos + 1
        return self.body[pos]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def varint(self) -> int:
        value = self.byte()
        if value < 0x80:
            return value
        value &= 0x7F
        for shift in (7, 14, 21):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if not byte:
                    raise malformed("A variable byte integer is longer than it needs to be.")
                return value
        raise malformed("A variable byte integer has more than four bytes.")

    def binary(self) -> bytes:
        return self.take(self.u16())

    def text(self) -> str:
        return decode_text(self.binary())

    def pair(self) -> tuple[str, str]:
        return self.text(), self.text()

    def packet_id(self) -> int:
        value = self.u16()
        if not value:
            raise violation("Packet identifier 0 is not allowed.")
        return value


def decode_text(raw: bytes) -> str:
    """UTF-8 without surrogates and U+0000: [MQTT-1.5.3-1], [MQTT-1.5.3-2]."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise malformed("A string is not valid UTF-8.") from None
    if "\0" in text:
        raise malformed("A string contains the character U+0000.")
    return text


def check_code(code: int, allowed: Container[int]) -> int:
    if code not in allowed:
        raise violation(f"Reason code 0x{code:02X} is not allowed in this packet.")
    return code


def write_byte(value: int) -> bytes:
    return bytes((value,))


def write_u16(value: int) -> bytes:
    if not 0 <= value <= 0xFFFF:
        raise malformed(f"{value} does not fit into two bytes.")
    return _U16.pack(value)


def write_u32(value: int) -> bytes:
    return _U32.pack(value)


def write_varint(value: int) -> bytes:
    if not 0 <= value <= MAX_VARINT:
        raise malformed(f"{value} does not fit into a variable byte integer.")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_binary(value: bytes) -> bytes:
    size = len(value)
    if size > 0xFFFF:
        raise malformed(f"A string or binary field of {size} bytes is longer than 65,535.")
    return _U16.pack(size) + value


def write_text(value: str) -> bytes:
    if "\0" in value:
        raise malformed("A string contains the character U+0000.")
    try:
        return write_binary(value.encode())
    except UnicodeEncodeError:
        raise malformed("A string contains a surrogate.") from None


def write_pair(value: tuple[str, str]) -> bytes:
    return write_text(value[0]) + write_text(value[1])


def write_packet_id(value: int) -> bytes:
    if not 0 < value <= 0xFFFF:
        raise violation(f"{value} is not a packet identifier.")
    return _U16.pack(value)


def write_frame(first: int, body: bytes) -> bytes:
    size = len(body)
    if size > MAX_VARINT:
        raise ProtocolError(ReasonCode.PACKET_TOO_LARGE, f"{size} bytes do not fit into an MQTT packet.")
    return (bytes((first, size)) if size < 0x80 else bytes((first,)) + write_varint(size)) + body
