"""What each payload becomes (docs/contract.md). Numbers keep their digits: answers are compared as text."""

import json

import pytest

from ingest.decode import MAX_PAYLOAD, MAX_STATE, BadArray, decode, decode_array
from ingest.message import Kind, Reason
from thingscale.lib.clock import now_us
from thingscale.lib.json_rules import MAX_DIGITS, BadValue, number_or_text


def refused(kind: Kind, payload: bytes) -> Reason:
    with pytest.raises(BadValue) as caught:
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
        pytest.param("9" * 300, b"9" * 300, id="300 digits"),
        pytest.param("7e-06", b"7e-06", id="as C prints a small number"),
        pytest.param("1.5E%2B3", b"1.5E+3", id="exponent with its sign"),
    ],
)
def test_text_that_is_a_number(text: str, number: bytes) -> None:
    assert decode(Kind.FORM, b"v=" + text.encode()) == b'{"value":' + number + b"}"


@pytest.mark.parametrize(
    "text",
    [
        *("007", "00", "-01", "12E4", "1e5", "nan", "NaN", "inf", "Infinity", "04A1B2", "0x10", "1_000"),
        *("", " ", "-", ".5", "5.", "1.2.3", "1,5", "٣", "１", "1 2", "--1", "1e+", "e+5"),
    ],
)
def test_text_that_stays_text(text: str) -> None:
    assert number_or_text(text) == text


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b'{"temp": 25.10, "humidity":50}', id="object as it came"),
        pytest.param(b"12.5", id="number"),
        pytest.param(b" -3 ", id="number between spaces"),
        pytest.param(b"true", id="true"),
        pytest.param(b" false\n", id="false between spaces"),
        pytest.param(b'{"uid": 12E4}', id="number in JSON's exponent form"),
        pytest.param(b'{"a": 1.7976931348623157e308}', id="greatest double"),
        pytest.param(b"1e+308", id="a great double, bare"),
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
        *(
            b"",
            b" ",
            b"\r\n",
            b"\xef\xbb\xbf",
            b"\0",
            b"{",
            b'{"a":1',
            b"{'a': 1}",
            b'{"a":1}x',
            b"{a:1}",
            b'"a',
        ),
        *(b'{"a": NaN}', b'{"a": Infinity}', b'{"a": -Infinity}', b'{"a": 1e309}', b"1e+309", b"-1e+999"),
        *(b"3" * 400, b'{"a": %s}' % (b"1" * 400), b'{"a": 1e-400}', b"2e-324", b"[1, 2]", b"[]", b" [true]"),
        *(
            b"0." + b"1" * 1001,
            b'{"a": 1e-5000}',
            b'{"a": "x", "b": 0.1e-00000000009}',
            b'{"a": 0e99999999999}',
        ),
        *("temp=ä".encode("latin-1"), '"ä"'.encode("latin-1"), b'"\xed\xa0\x80"', b'"\xc0\x80"'),
        *(rb'"\ud800"', rb'"\udc00"', rb'{"\ud800": 1}', b"two\nlines", b"a\tb", b"\x7f", "a\x85".encode()),
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
        pytest.param(b'"\0"', id="itself in a string"),
        pytest.param(b"O\0N", id="itself in text"),
        pytest.param(b'{"a": 1}\0\0', id="two behind"),
        pytest.param(b"\0{}", id="in front"),
        pytest.param('{"a": 1}'.encode("utf-16-le"), id="UTF-16"),
    ],
)
def test_a_nul_character_is_refused_with_that_reason(payload: bytes) -> None:
    assert refused(Kind.JSON, payload) is Reason.NUL_CHARACTER


@pytest.mark.parametrize(
    "text",
    [
        *(
            "ON",
            "online",
            "Offline",
            "04A1B2",
            "12E4",
            "1e5",
            "1e309",
            "007",
            "nan",
            "NaN",
            "null",
            "True",
            "+5",
        ),
        *("Grüße, 温度 °C", " padded ", "a=1&b=2", "-", ".5", "true story", "12.5 C", "x" * 60_000),
    ],
)
def test_d8_what_is_neither_a_number_nor_json_is_text(text: str) -> None:
    assert json.loads(decode(Kind.JSON, text.encode())) == text


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b'\xef\xbb\xbf{"t": 1}', b'{"t": 1}'),
        (b'\xef\xbb\xbf{"t": 1}\r\n\0', b'{"t": 1}'),
        (b"\xef\xbb\xbfON\r\n", b'"ON"'),
        (b"12.5\0", b"12.5"),
        (b"ON\0\n", b'"ON"'),
        (b"true\0", b"true"),
        (b'"a"\0', b'"a"'),
    ],
)
def test_h10_what_frames_a_text_is_no_part_of_it(payload: bytes, value: bytes) -> None:
    assert decode(Kind.JSON, payload) == value


@pytest.mark.parametrize("kind", [Kind.FORM, Kind.STATE])
def test_h10_also_of_a_form(kind: Kind) -> None:
    assert list(json.loads(decode(kind, b"\xef\xbb\xbfv=5\r\n\0")).values()) == [5]


@pytest.mark.parametrize(
    "value",
    [
        *(b"[%s]" % b",".join([b"1e308"] * 10_800), b"[%s]" % b",".join([b"1e99"] * 3000)),
        *(b'{"a": [%s]}' % b",".join([b"5e-324"] * 9000), b"[%s]" % b",".join([b"-1.5E-300"] * 1000)),
    ],
)
def test_d7_the_limit_counts_numbers_as_they_are_read_back(value: bytes) -> None:
    assert refused(Kind.JSON, b'{"a": %s}' % value) is Reason.TOO_LARGE


def test_d7_as_many_as_can_be_read_back_are_taken() -> None:
    payload = b'{"a": [%s], "b": "%s"}' % (b",".join([b"1e308"] * 700), b"1e308 " * 5000)
    assert decode(Kind.JSON, payload) == payload


@pytest.mark.parametrize("number", [b"0.0e-300", b"0e999", b"1e-323", b"-0", b"9" * 308])
def test_numbers_that_a_double_holds(number: bytes) -> None:
    payload = b'{"a": %s}' % number
    assert decode(Kind.JSON, payload) == payload


@pytest.mark.parametrize("kind", [Kind.FORM, Kind.STATE])
@pytest.mark.parametrize("number", ["1e%2B309", "9" * 400, "0." + "1" * (MAX_DIGITS + 1), "1e-400"])
def test_d6_a_number_in_a_form_that_no_double_holds(kind: Kind, number: str) -> None:
    assert refused(kind, f"v={number}".encode()) is Reason.BAD_JSON_FORMAT


# orjson writes up to 254 levels and reads up to 1,024; Python's own reader ends near a thousand.
DEPTHS = (
    33,
    100,
    252,
    253,
    254,
    255,
    256,
    300,
    900,
    990,
    1000,
    1020,
    1021,
    1022,
    1023,
    1024,
    1025,
    1100,
    5000,
)


@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
def test_nesting_goes_up_to_32(opening: bytes, closing: bytes) -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":' + opening * (depth - 1) + b"1" + closing * (depth - 1) + b"}"

    assert decode(Kind.JSON, nested(32)) == nested(32)
    for depth in DEPTHS:
        assert refused(Kind.JSON, nested(depth)) is Reason.BAD_JSON_FORMAT
        with pytest.raises(BadArray) as error:
            decode_array(b'[{"value":%s}]' % nested(depth), 2**20, now_us())
        assert error.value.reason is Reason.BAD_JSON_FORMAT


def test_many_shallow_brackets_are_not_nesting() -> None:
    payload = json.dumps({"a": [[1]] * 500, "b": "[" * 500}).encode()
    assert decode(Kind.JSON, payload) == payload


@pytest.mark.parametrize(
    "kind", sorted(set(Kind) - {Kind.INTAKE, Kind.MESSAGE})
)  # which are not decoded here
def test_the_payload_limit(kind: Kind) -> None:
    head, tail = (b'"', b'"') if kind is Kind.JSON else (b"v=", b"")
    fits = head + b"x" * (MAX_PAYLOAD - len(head + tail)) + tail
    assert len(fits) == 64 * 1024
    assert refused(kind, fits + b" ") is Reason.TOO_LARGE
    if kind is not Kind.STATE:  # whose own limit is less
        assert decode(kind, fits)


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


def test_r13_a_state_is_bounded_as_it_is_shown() -> None:
    """In a list of devices each has its own."""
    fits = b"text=" + b"x" * (MAX_STATE - 20)
    assert len(decode(Kind.STATE, fits)) <= MAX_STATE
    many = b"&".join(b"key-%d=%s" % (each, b"x" * 20) for each in range(999))
    for large in (b"text=" + b"x" * MAX_STATE, many):
        assert refused(Kind.STATE, large) == Reason.TOO_LARGE
    assert refused(Kind.STATE, b"a=" + b"%22" * (MAX_STATE // 2 + 1)) == Reason.TOO_LARGE  # escaped
