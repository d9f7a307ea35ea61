"""What each payload becomes (CONTRACT 4). Numbers keep their digits: answers are compared as text."""

import json

import pytest

from ingest.decode import MAX_PAYLOAD, Undecodable, decode, text_value
from ingest.message import Kind, Reason


def refused(kind: Kind, payload: bytes) -> Reason:
    with pytest.raises(Undecodable) as caught:
        decode(kind, payload)
    return caught.value.reason


@pytest.mark.parametrize(
    ("text", "number"),
    [
        pytest.param("23.40", b"23.40", id="fraction keeps its zero"),
        pytest.param(" -3", b"-3", id="trimmed"),
        pytest.param("-3\r\n", b"-3", id="line end"),
        pytest.param("0", b"0", id="zero"),
        pytest.param("-0.5", b"-0.5", id="minus"),
        pytest.param("0.001", b"0.001", id="zero before the point"),
        pytest.param("9" * 100, b"9" * 100, id="100 digits"),
    ],
)
def test_text_that_is_a_number(text: str, number: bytes) -> None:
    assert decode(Kind.FORM, b"v=" + text.encode()) == b'{"value":' + number + b"}"


@pytest.mark.parametrize(
    "text",
    [
        *("007", "00", "-01", "12E4", "1e5", "nan", "NaN", "inf", "Infinity", "04A1B2", "0x10", "1_000"),
        *("", " ", "-", ".5", "5.", "1.2.3", "1,5", "٣", "１", "1 2", "--1", "9" * 101),
    ],
)
def test_text_that_stays_text(text: str) -> None:
    assert text_value(text) == text


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b'{"temp": 25.10, "humidity":50}', id="object as it came"),
        pytest.param(b"12.5", id="number"),
        pytest.param(b" -3 ", id="number between spaces"),
        pytest.param(b"12E4", id="number in JSON's exponent form"),
        pytest.param(b"1.7976931348623157e308", id="greatest double"),
        pytest.param(b"5e-324", id="smallest double"),
        pytest.param(b"1" + b"0" * 300, id="301 digits"),
        pytest.param(b'"Hello!"', id="string"),
        pytest.param(b'""', id="empty string"),
        pytest.param(b"{}", id="empty object"),
        pytest.param('{"ключ": "値 😀"}'.encode(), id="UTF-8"),
        pytest.param(rb'"\ud83d\ude00"', id="surrogate pair"),
        pytest.param(rb'"\\u0000"', id="backslash and u0000, not a NUL"),
        pytest.param(rb'{"\\\\u0000": "\\\\\\u0001"}', id="more backslashes, not a NUL"),
        pytest.param(b'"' + b"9" * 1500 + b'e999"', id="long digits inside a string"),
        pytest.param(b'{"a": 1, "a": 2}', id="a key twice"),
        pytest.param(b'{"a": [true, null, [1]]}', id="arrays inside"),
    ],
)
def test_json_stays_as_it_came(payload: bytes) -> None:
    assert decode(Kind.JSON, payload) == payload


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b" ", b"{", b'{"a":1', b"{'a': 1}", b'{"a":1}x', b"{a:1}", b"Hello", b"007", b"04A1B2"),
        *(b"nan", b"NaN", b"-Infinity", b'{"a": NaN}', b'{"a": Infinity}', b"1e309", b"1e-5000", b"-"),
        *(b"[1, 2]", b"[]", b"true", b"false", b"null", b"\xef\xbb\xbf1", b"1" * 1001, b"+5", b".5"),
        *(b"0." + b"1" * 1001, b'{"a": 1e-5000}', b'{"a": "x", "b": 0.1e-00000000009}'),
        *("temp=ä".encode("latin-1"), '"ä"'.encode("latin-1"), b'"\xed\xa0\x80"', b'"\xc0\x80"'),
        *(rb'"\ud800"', rb'"\udc00"', rb'{"\ud800": 1}', rb'"\x00"', b'"\0"', b"\0", b'{"a": 1}\0'),
    ],
)
def test_what_is_not_a_value_in_json(payload: bytes) -> None:
    assert refused(Kind.JSON, payload) is Reason.BAD_JSON_FORMAT


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(rb'"\u0000"', id="value"),
        pytest.param(rb'{"a\u0000b": 1}', id="key"),
        pytest.param(rb'{"a": [{"b": "x\\\u0000"}]}', id="deep, after an escaped backslash"),
        pytest.param(rb'{"a": "\u0000", "a": 1}', id="a value that a second key replaces"),
        pytest.param(rb'{"\u0000": 1, "b": "\\u0000"}', id="beside one that only looks like it"),
    ],
)
def test_a_nul_character_is_refused_with_that_reason(payload: bytes) -> None:
    assert refused(Kind.JSON, payload) is Reason.NUL_CHARACTER


@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
def test_nesting_goes_up_to_32(opening: bytes, closing: bytes) -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":' + opening * (depth - 1) + b"1" + closing * (depth - 1) + b"}"

    assert decode(Kind.JSON, nested(32)) == nested(32)
    for depth in (33, 1000, 5000):
        assert refused(Kind.JSON, nested(depth)) is Reason.BAD_JSON_FORMAT


def test_many_shallow_brackets_are_not_nesting() -> None:
    payload = json.dumps({"a": [[1]] * 500, "b": "[" * 500}).encode()
    assert decode(Kind.JSON, payload) == payload


@pytest.mark.parametrize("kind", list(Kind))
def test_the_payload_limit(kind: Kind) -> None:
    head, tail = (b'"', b'"') if kind is Kind.JSON else (b"v=", b"")
    fits = head + b"x" * (MAX_PAYLOAD - len(head + tail)) + tail
    assert len(fits) == 64 * 1024
    assert decode(kind, fits)
    assert refused(kind, fits + b" ") is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"\x01\xab\xff", b'"01abff"'),
        (b"", b'""'),
        (b"\0", b'"00"'),
        (b'{"a"', b'"7b226122"'),
    ],
)
def test_binary_becomes_lower_case_hex(payload: bytes, value: bytes) -> None:
    assert decode(Kind.BINARY, payload) == value


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"v=23.40", {"value": 23.4}),
        (b"v=23.4&v2=56.7\r\n", {"value": 23.4, "value2": 56.7}),
        (b"v=1&v2=2&v3=3&v4=4", {"value": 1, "value2": 2, "value3": 3, "value4": 4}),
        (b"v3=x", {"value3": "x"}),
        (b"v=a+b", {"value": "a b"}),
        (b"v=a%2Bb%26c%3Dd", {"value": "a+b&c=d"}),
        (b"v=%E2%82%AC", {"value": "€"}),
        ("v=é".encode(), {"value": "é"}),
        (b"v=+-3", {"value": -3}),
        (b"v=007&v2=12E4&v3=nan", {"value": "007", "value2": "12E4", "value3": "nan"}),
        (b"v=", {"value": ""}),
        (b"v=1&v=2", {"value": 2}),
        (b"v=1&v5=5&temp=20", {"value": 1}),
        (b"v=1&&v2", {"value": 1, "value2": ""}),
        (b'v={"a":1}', {"value": '{"a":1}'}),
    ],
)
def test_v1_forms(payload: bytes, value: dict[str, object]) -> None:
    assert json.loads(decode(Kind.FORM, payload)) == value


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        *((text, Reason.BAD_JSON_FORMAT) for text in (b"", b"\r\n", b"v", b"12.5", b'{"a": 1}', b"temp=5")),
        pytest.param("v=ä".encode("latin-1"), Reason.BAD_JSON_FORMAT, id="latin-1"),
        pytest.param(b"v=%E4", Reason.BAD_JSON_FORMAT, id="percent-encoded latin-1"),
        pytest.param(b"v=%ED%A0%80", Reason.BAD_JSON_FORMAT, id="percent-encoded surrogate"),
        pytest.param(b"&".join([b"v=1"] * 1001), Reason.BAD_JSON_FORMAT, id="1001 fields"),
        pytest.param(b"v=%00", Reason.NUL_CHARACTER, id="percent-encoded NUL"),
        pytest.param(b"v=a\0b", Reason.NUL_CHARACTER, id="NUL"),
    ],
)
def test_v1_forms_that_are_refused(payload: bytes, reason: Reason) -> None:
    assert refused(Kind.FORM, payload) is reason


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"pod_run_current=3\n", {"pod_run_current": 3}),
        (b"fw=1.2.3&ip=10.0.0.1&up=+17+", {"fw": "1.2.3", "ip": "10.0.0.1", "up": 17}),
        (b"name=%20caf%C3%A9%20&uid=007", {"name": "café", "uid": "007"}),
        (b"v=1", {"v": 1}),
        (b"a=&b=-0.50", {"a": "", "b": -0.5}),
        (b"=1", {"": 1}),
    ],
)
def test_states_have_free_keys_and_trimmed_values(payload: bytes, value: dict[str, object]) -> None:
    assert json.loads(decode(Kind.STATE, payload)) == value


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", Reason.BAD_JSON_FORMAT),
        (b"on", Reason.BAD_JSON_FORMAT),
        (b"a=\xff", Reason.BAD_JSON_FORMAT),
        (b"a%00=1", Reason.NUL_CHARACTER),
        (b"a=%00", Reason.NUL_CHARACTER),
    ],
)
def test_states_that_are_refused(payload: bytes, reason: Reason) -> None:
    assert refused(Kind.STATE, payload) is reason
