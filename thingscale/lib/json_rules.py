"""The rules for the JSON value of a datapoint (docs/contract.md, Values).

MQTT, the HTTP connector, REST, states and held messages all use these rules, so that they accept the same
values and store them as the same text. PostgreSQL's jsonb accepts each value that passes, and it can be read
back. jsonb writes numbers out in full (1e308 has 309 digits), so the limits count the digits written out.
"""

import re
from collections.abc import Sequence
from typing import Any, NoReturn

import orjson

from thingscale.lib.reasons import Reason

MAX_BYTES = 64 * 1024  # of a value as it is sent
MAX_WRITTEN_OUT = 4 * MAX_BYTES  # of a value as it is read back, with its numbers written out
MAX_NESTING = 32
MAX_DIGITS = 1000  # of a number written out

_loads, _JSONDecodeError = orjson.loads, orjson.JSONDecodeError

# A text that is a number and nothing else: an exponent needs its sign, since RFID uids look like 12E4.
_NUMBER_TEXT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-][0-9]+)?")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# In the text: a key that comes twice hides its first value. An even number of backslashes escapes itself.
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NUMBER = re.compile(rb"([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")

# The shape of the numbers in a text, made in C: each digit becomes 0, each E becomes e, signs go.
_SHAPE = bytes(0x30 if c in b"0123456789" else 0x65 if c in b"eE" else 0x20 for c in range(256))
_EXPONENT, _LONG_EXPONENT = b"0e0", b"0e000"
_MANY_DIGITS = b"0" * 200  # with these and an exponent of two digits a number is still a double
_TINY = 2 * MAX_NESTING  # bytes, in which nothing can be nested too deep
_SHORT = 1000  # bytes, in which exponents of two digits can't write out to more than 20 kB


class BadValue(Exception):
    """`rule` completes a sentence that begins with the value."""

    def __init__(self, reason: Reason, rule: str) -> None:
        super().__init__(rule)
        self.reason = reason
        self.rule = rule


def trimmed(payload: bytes) -> bytes:
    """Removes what is no part of the text: a byte order mark before it; behind it line ends, and the one NUL
    with which C ends a string."""
    if payload[:1] != b"\xef" and payload[-1:] > b"\r":
        return payload  # most, in half the time
    return payload.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n").removesuffix(b"\0").rstrip(b"\r\n")


def bare(payload: bytes) -> bytes:
    """JSON text for a payload that is a value: a number, true or false, whole JSON, or else text.
    Raises BadValue."""
    try:
        value = _loads(payload)
    except _JSONDecodeError:
        return _bare_text(payload)
    kind = value.__class__
    if kind is dict:
        check(payload, value)
        return payload
    if kind is str:
        _check_nul(payload)
        return payload
    if kind is int or kind is bool:
        return payload
    if kind is float and len(payload) < len(_MANY_DIGITS) and b"e" not in payload and b"E" not in payload:
        return payload
    return _bare_text(payload)


def _bare_text(payload: bytes) -> bytes:
    """For payloads that orjson can't read, or reads as JSON where the contract has text: 12E4, null."""
    text = trimmed(payload)
    if b"\0" in text:
        raise BadValue(Reason.NUL_CHARACTER, "has a NUL character")
    try:
        plain = text.decode()
    except UnicodeDecodeError:
        _not_json("is not UTF-8")
    if _NUMBER_TEXT.fullmatch(number := plain.strip()):
        _check_numbers(number.encode())
        return number.encode()
    if plain.lstrip().startswith(("{", "[", '"')):
        try:
            value = _loads(text)
        except _JSONDecodeError:
            _not_json("is not whole JSON")
        if value.__class__ is list:
            _not_json("is an array")
        check(text, value)
        return text
    if plain.strip() in ("true", "false"):
        return plain.strip().encode()
    if not plain.strip():
        _not_json("is empty")
    if _CONTROL_CHARACTER.search(plain):
        _not_json("has control characters")
    return orjson.dumps(plain)


def _not_json(rule: str) -> NoReturn:
    raise BadValue(Reason.BAD_JSON_FORMAT, rule)


def number_or_text(text: str) -> Any:
    """A number, as JSON text, only if it can be nothing else. Whether a double holds it is for `check` to
    say."""
    return orjson.Fragment(text.strip()) if is_number(text) else text


def is_number(text: str) -> bool:
    """`23.40`, ` -3`, `7e-06`; but `007`, `12E4`, `nan` and `04A1B2` are text."""
    return _NUMBER_TEXT.fullmatch(text.strip()) is not None


def check(text: bytes, value: Any) -> None:
    """Raises BadValue unless jsonb can hold this JSON text and its readers can read it. `value` is what it
    was parsed to."""
    if len(text) <= _TINY:  # most; such a text can break two rules only
        if b"\\u0000" in text or _LONG_EXPONENT in text.translate(_SHAPE, b"+-"):
            _check_nul(text)
            _check_numbers(text)
        return
    if _brackets(text) > MAX_NESTING:
        check_nesting(value)
    _check_nul(text)
    if _suspicious_numbers(text, len(text)):
        _check_numbers(text)


def suspicious(texts: Sequence[bytes], longest: int) -> bool:
    """Whether one of these JSON texts may break a rule. Looks at all of them together, because an array may
    have thousands. `longest` is the length of the longest text."""
    together = b" ".join(texts)
    if b"\\u0000" in together or _suspicious_numbers(together, longest):
        return True
    return longest > 2 * MAX_NESTING and max(map(_brackets, texts)) > MAX_NESTING


def check_nesting(value: Any) -> None:
    """Goes level by level, since recursion could go too deep. Raises BadValue."""
    level = [value]
    for _ in range(MAX_NESTING + 1):
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            return
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    _not_json(f"is nested deeper than {MAX_NESTING} levels")


def _suspicious_numbers(text: bytes, longest: int) -> bool:
    shape = text.translate(_SHAPE, b"+-")
    if _EXPONENT in shape and (longest > _SHORT or _LONG_EXPONENT in shape):
        return True
    return longest >= len(_MANY_DIGITS) and _MANY_DIGITS in shape


def _brackets(text: bytes) -> int:
    return text.count(b"{") + text.count(b"[")


def _check_nul(text: bytes) -> None:
    if b"\\u0000" in text and _ESCAPED_NUL.search(text):
        raise BadValue(Reason.NUL_CHARACTER, "has a NUL character")


def _check_numbers(text: bytes) -> None:
    written_out = len(text)
    for whole, fraction, exponent in _NUMBER.findall(_STRING.sub(b'""', text)):
        if not exponent and len(whole) + len(fraction) < len(_MANY_DIGITS):
            continue
        # Written out by jsonb; an exponent of ten digits is beyond all.
        shift = int(exponent or 0) if len(exponent) <= 10 else MAX_DIGITS
        digits = max(1, len(whole) + shift) + max(0, len(fraction) - shift)
        # Neither beyond the greatest double, nor so small that only zero is left of it.
        number = float(b"%s.%se%s" % (whole, fraction or b"0", exponent or b"0"))
        lost = number == 0.0 and (whole + fraction).strip(b"0")
        if digits > MAX_DIGITS or lost or number == float("inf"):
            _not_json(
                "has a number out of range: a double holds about 5e-324 to 1.8e308, here in 1000 digits"
            )
        written_out += max(0, digits - len(whole) - len(fraction) - len(exponent))
    if written_out > MAX_WRITTEN_OUT:
        rule = f"has more than {MAX_WRITTEN_OUT // 1024} KiB with its numbers written out"
        raise BadValue(Reason.TOO_LARGE, rule)
