"""Protocol Buffers as they are in bytes: the fields of a message, one after the other.

A format says which fields it needs, and passes over the others. A message in a message stays bytes until its
own turn comes, so that neither nesting nor millions of empty fields cost more than the bytes that were sent.
"""

import base64
import contextlib
import struct
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

MAX_NUMBERS = 10_000  # of one repeated field
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types: the lowest three bits of a key
_64_BITS = (1 << 64) - 1
_double = struct.Struct("<d").unpack
_unsigned, _signed = struct.Struct("<Q").unpack, struct.Struct("<q").unpack


class BadMessage(ValueError):
    """`str()` completes a sentence that begins with the message."""


def key(number: int, wire_type: int) -> int:
    """As `fields` gives it, for a field of this number."""
    return number << 3 | wire_type


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Key and value of each field: the number of a varint, the bytes of all else. Raises BadMessage."""
    at, end = 0, len(message)
    try:
        while at < end:
            field = message[at]
            at += 1
            if field > 127:
                field, at = _varint(message, at - 1)
            wire_type = field & 7
            if wire_type == BYTES:
                size = message[at]
                at += 1
                if size > 127:
                    size, at = _varint(message, at - 1)
            elif wire_type == VARINT:
                value = message[at]
                at += 1
                if value > 127:
                    value, at = _varint(message, at - 1)
                yield field, value
                continue
            elif wire_type == FIXED64:
                size = 8
            elif wire_type == FIXED32:
                size = 4
            else:
                raise BadMessage("has a group, or a wire type that there is none")
            start, at = at, at + size
            if at > end:
                break
            yield field, message[start:at]
    except IndexError:
        at = end + 1
    if at > end:
        raise BadMessage("ends in the middle of a field")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins here, and where the next thing does."""
    number, shift = message[at] & 127, 7
    while message[at] > 127:
        at += 1
        if shift > 63:
            raise BadMessage("has a number of more than ten bytes")
        number |= (message[at] & 127) << shift
        shift += 7
    return number & _64_BITS, at + 1


def varints(packed: bytes) -> list[int]:
    """The numbers of a packed field. Raises BadMessage."""
    if len(packed) <= MAX_NUMBERS and packed.isascii():  # each of one byte
        return list(packed)
    if len(packed) > 10 * MAX_NUMBERS:
        raise BadMessage(f"has more than {MAX_NUMBERS} numbers in a field")
    numbers: list[int] = []
    number = shift = 0
    for byte in packed:
        if byte > 127:
            number |= (byte & 127) << shift
            shift += 7
        else:
            numbers.append((number | byte << shift) & _64_BITS)
            number = shift = 0
    if shift or len(numbers) > MAX_NUMBERS:
        raise BadMessage(f"has numbers in a field that are cut off, or more than {MAX_NUMBERS}")
    return numbers


def double(value: bytes) -> float:
    number: float = _double(value)[0]
    return number


def signed(number: int) -> int:
    """The int32 or int64 of a varint."""
    return number - (1 << 64) if number >> 63 else number


def zigzag(number: int) -> int:
    """The sint32 or sint64 of a varint."""
    return number >> 1 ^ -(number & 1)


def text(value: bytes) -> str:
    """Raises BadMessage."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadMessage("has text that is not UTF-8") from None


def _fixed(code: str) -> Callable[[bytes], tuple[Any, ...]]:
    def unpack(packed: bytes) -> tuple[Any, ...]:
        count, rest = divmod(len(packed), 8)
        if rest or count > MAX_NUMBERS:
            raise BadMessage(f"has numbers in a field that are cut off, or more than {MAX_NUMBERS}")
        return struct.unpack(f"<{count}{code}", packed)

    return unpack


def _same(value: Any) -> Any:
    return value


def _each(convert: Callable[[int], int]) -> Callable[[bytes], list[int]]:
    return lambda packed: list(map(convert, varints(packed)))


def _json_integer(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        try:
            number = int(value) if isinstance(value, str) and len(value) <= 20 else value
        except ValueError:
            number = value
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if number.__class__ is not int or not least <= number <= most:
            raise BadMessage("has something else where a whole number should be")
        return int(number)

    return read


def _json_double(value: Any) -> float:
    """Also `NaN` and `Infinity`, which are texts."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return float(value)
    raise BadMessage("has something else where a number should be")


def _json_binary(value: Any) -> bytes:
    try:
        return base64.b64decode(_json_text(value))
    except ValueError:
        raise BadMessage("has something else where Base64 should be") from None


def _json_of(kind: type[Any], noun: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if value.__class__ is not kind:
            raise BadMessage(f"has something else where {noun} should be")
        return value

    return read


_json_text = _json_of(str, "a text")
_json_unsigned, _json_signed = _json_integer(0, _64_BITS), _json_integer(-(1 << 63), (1 << 63) - 1)


class Kind(Enum):
    """What a field is: how one of them is read, from which wire type; how many that are packed; how one that
    is in JSON."""

    UINT = VARINT, _same, _each(_same), _json_unsigned
    INT = VARINT, signed, _each(signed), _json_signed
    SINT = VARINT, zigzag, _each(zigzag), _json_signed
    BOOL = VARINT, bool, _each(bool), _json_of(bool, "true or false")
    FIXED = FIXED64, lambda value: _unsigned(value)[0], _fixed("Q"), _json_unsigned
    SFIXED = FIXED64, lambda value: _signed(value)[0], _fixed("q"), _json_signed
    DOUBLE = FIXED64, double, _fixed("d"), _json_double
    STRING = BYTES, text, None, _json_text
    BINARY = BYTES, _same, None, _json_binary
    MESSAGE = BYTES, _same, None, _json_of(dict, "an object")  # to be read later


class Field(NamedTuple):
    number: int
    kind: Kind
    repeated: bool = False


class _Reader(NamedTuple):
    name: str
    read: Callable[[Any], Any] | None  # None: it is as it came
    append: bool = False
    extend: bool = False


class Schema:
    """Fields of a message, by name."""

    def __init__(self, **wanted: Field) -> None:
        self._readers: dict[int, _Reader] = {}  # by key
        # Name, how it is read and whether it is repeated, by either name that JSON may have
        self._json_readers: dict[str, tuple[str, Callable[[Any], Any], bool]] = {}
        for name, (number, kind, repeated) in wanted.items():
            wire_type, one, packed, from_json = kind.value
            self._readers[key(number, wire_type)] = _Reader(
                name, None if one is _same else one, append=repeated
            )
            if repeated and packed:
                self._readers[key(number, BYTES)] = _Reader(name, packed, extend=True)
            first, *others = name.split("_")
            for json_name in (name, first + "".join(map(str.capitalize, others))):
                self._json_readers[json_name] = name, from_json, repeated

    def read(self, message: bytes) -> dict[str, Any]:
        """What the message has of them; lists of what is repeated. Raises BadMessage."""
        found: dict[str, Any] = {}
        readers = self._readers
        for field, content in fields(message):
            reader = readers.get(field)
            if reader is None:
                continue
            name, read, append, extend = reader
            if read:
                content = read(content)  # noqa: PLW2901
            if append and name in found:
                found[name].append(content)
            elif append:
                found[name] = [content]
            elif extend:
                found.setdefault(name, []).extend(content)
            else:
                found[name] = content
        return found

    def read_json(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The same, of a message in JSON. Raises BadMessage."""
        found: dict[str, Any] = {}
        for json_name, content in message.items():
            reader = self._json_readers.get(json_name)
            if reader is None or content is None:
                continue
            name, read, repeated = reader
            if not repeated:
                found[name] = read(content)
            elif content.__class__ is list:
                found[name] = list(map(read, content))
            else:
                raise BadMessage("has something else where an array should be")
        return found


def written(number: int, value: int | bytes) -> bytes:
    """A field to be sent: a varint, or bytes with their length."""
    if isinstance(value, int):
        return _written_varint(key(number, VARINT)) + _written_varint(value)
    return _written_varint(key(number, BYTES)) + _written_varint(len(value)) + value


def _written_varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)
