"""Whatever decode() accepts, PostgreSQL's jsonb accepts: asked of the real server, many at a time."""

import pytest
from django.db import connection
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingest.decode import decode
from ingest.message import Kind, Reason
from thingscale.lib.json_rules import BadValue

_REASONS = {Reason.BAD_JSON_FORMAT, Reason.NUL_CHARACTER, Reason.TOO_LARGE}
# Texts of JSON, mostly valid, made of what parsers disagree about.
_ESCAPES = [rb"\u0000", rb"\\u0000", rb"\\\u0000", rb"\\", rb"\"", rb"\/", rb"\u00e9", rb"\ud800", rb"\udc00"]
_PIECES = [
    *_ESCAPES,
    rb"\ud83d\ude00",
    b"\0",
    b"\x1f",
    b"\x7f",
    b"\xff",
    b"\xed\xa0\x80",
    b"{",
    b"[",
    b"9" * 120,
]
_plain = st.text(max_size=4).map(lambda text: text.encode("utf-8", "replace"))
_strings = st.lists(st.sampled_from(_PIECES) | _plain, max_size=4).map(
    lambda parts: b'"' + b"".join(parts) + b'"'
)
_digits = st.sampled_from(
    [b"0", b"1", b"17", b"007", b"9" * 99, b"9" * 100, b"3" * 308, b"1" * 1000, b"1" * 1001]
)
_exponents = st.sampled_from(
    [b"", b"e5", b"E+99", b"e308", b"e-324", b"e-330", b"e-331", b"e-999", b"e9999999999"]
)
_numbers = st.builds(
    lambda sign, whole, fraction, exponent: sign + whole + fraction + exponent,
    st.sampled_from([b"", b"-", b" "]),
    _digits,
    _digits.map(lambda text: b"." + text) | st.just(b""),
    _exponents,
)
_words = st.sampled_from([b"true", b"null", b"NaN", b"Infinity", b"-Infinity", b"nan", b"", b" 1 ", b"\v1"])
_leaves = _strings | _numbers | _words


def _objects(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    members = st.tuples(_strings | st.just(b'"a"'), values).map(b":".join)
    return st.lists(members, max_size=3).map(lambda parts: b"{" + b",".join(parts) + b"}")


def _arrays(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(values, max_size=3).map(lambda parts: b"[" + b",".join(parts) + b"]")


_json = st.recursive(_leaves, lambda values: _objects(values) | _arrays(values), max_leaves=6)
_deep = st.integers(30, 40).map(lambda depth: b'{"a":' * depth + b"1" + b"}" * depth)
_fields = st.lists(
    st.tuples(st.sampled_from([b"v", b"v2", b"x", b"%00", b"%FF", b""]), _plain | _numbers | _words).map(
        b"=".join
    ),
    max_size=4,
).map(b"&".join)
payloads = st.tuples(st.just(Kind.JSON), _json | _deep | st.binary(max_size=20)) | st.tuples(
    st.sampled_from([Kind.FORM, Kind.STATE, Kind.BINARY]), _fields | st.binary(max_size=20)
)


def accepted(kind: Kind, payload: bytes) -> str | None:
    """None if it was refused, with a reason."""
    try:
        return decode(kind, payload).decode()
    except BadValue as error:
        return None if error.reason in _REASONS else pytest.fail(f"{error.reason} says nothing")


@pytest.mark.django_db
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(payloads, min_size=10, max_size=20))
@example([(Kind.JSON, rb'{"a": "\u0000", "a": 1}')])
@example([(Kind.JSON, b'{"a":' * 33 + b"1" + b"}" * 33)])
def test_postgresql_takes_what_decode_lets_pass(candidates: list[tuple[Kind, bytes]]) -> None:
    texts = [text for text in (accepted(*candidate) for candidate in candidates) if text is not None]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(text::jsonb) FROM unnest(%s::text[]) AS text", [texts])
        assert cursor.fetchone()[0] == len(texts)


@pytest.mark.parametrize(
    "kind", sorted(set(Kind) - {Kind.INTAKE, Kind.MESSAGE})
)  # which are not decoded here
def test_the_property_is_not_empty(kind: Kind) -> None:
    assert accepted(kind, b"v=1" if kind in {Kind.FORM, Kind.STATE} else b"1")
