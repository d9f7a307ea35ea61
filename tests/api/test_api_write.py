"""POST /v2/stream/{channel}."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from api_calls import Caller, document, refusal
from django.utils import timezone

from thingscale.lib.clock import without_colon
from thingscale.streams.models import Channel, Latest, Tag


def stored(api: Caller, limit: int = 10_000) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = document(api.get("stream/0", X_ENDTIME="last", X_PAGELIMIT=str(limit)))[
        "stream"
    ]
    return rows


@pytest.mark.parametrize(
    "text",
    [
        "12.5",
        "23.40",
        "0",
        "-7",
        "123456789012345678901234567890",
        "1.50e3",
        '"é \\u00e9 \\\\u0000 \\""',
        '""',
        "{}",
        '{"a": [1, {"b": null}], "c": true, "d": 0.10, "": ""}',
    ],
)
def test_a_value_of_each_kind(api: Caller, channel: Channel, text: str) -> None:
    response = api.post("stream/0", f'{{"value": {text}}}'.encode())
    assert (response.status_code, document(response)) == (201, {"stored": 1})
    (row,) = stored(api)
    assert row["value"] == json.loads(text)


@pytest.mark.parametrize("text", ["23.40", "0.10", "100000000000000000000.000000000000000000001"])
def test_digits_are_kept(api: Caller, channel: Channel, text: str) -> None:
    api.post("stream/0", f'[{{"value": {text}}}, {{"value": {{"x": {text}}}}}]'.encode())
    answer = api.get("stream/0", X_ENDTIME="last", X_PAGELIMIT="2").getvalue().decode()
    assert f'"value":{text},' in answer
    assert f'"value":{{"x": {text}}},' in answer


def test_without_a_time_it_is_the_time_of_receipt(api: Caller, channel: Channel) -> None:
    before = time.time()
    api.post("stream/0", [{"value": 1}, {"value": 2, "at": None, "tag": None}])
    rows = stored(api)
    assert [row["value"] for row in rows] == [1, 2]
    assert int(before) <= int(rows[0]["_id"][:8], 16) <= time.time()


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("2026-01-31 13:45", "2026-01-31T13:45:00+0900"),
        ("2026-01-31 13:45:30.5", "2026-01-31T13:45:30+0900"),
        ("2026-01-31T13:45:30Z", "2026-01-31T22:45:30+0900"),
        ("2015-02-06T08:26:29+0900", "2015-02-06T08:26:29+0900"),
        ("2000-01-01T00:00:00Z", "2000-01-01T09:00:00+0900"),
    ],
)
def test_with_a_time(api: Caller, channel: Channel, sent: str, shown: str) -> None:
    assert api.post("stream/0", {"value": 1, "at": sent}).status_code == 201
    assert [row["at"] for row in stored(api)] == [shown]


def test_an_array_with_tags(api: Caller, channel: Channel) -> None:
    points = [{"value": n, "tag": f"t{n % 3}", "at": f"2026-01-31 00:00:{n:02}"} for n in range(9)]
    response = api.post("stream/0", points)
    assert (response.status_code, document(response)) == (201, {"stored": 9})
    assert [(row["value"], row["tag"]) for row in stored(api)] == [(n, f"t{n % 3}") for n in range(9)]
    api.post("stream/0", {"value": 10, "tag": "t0"})
    assert Tag.objects.count() == 3
    assert Latest.objects.filter(channel=channel).count() == 3


def test_10_000_and_no_more(api: Caller, channel: Channel) -> None:
    points = [{"value": {"n": n}} for n in range(10_000)]
    response = api.post("stream/0", points)
    assert (response.status_code, document(response)) == (201, {"stored": 10_000})
    assert [row["value"]["n"] for row in stored(api)] == list(range(10_000))
    assert refusal(api.post("stream/0", [*points, {"value": 1}])) == (413, "TOO_LARGE")


def test_an_empty_array(api: Caller, channel: Channel) -> None:
    assert document(api.post("stream/0", [])) == {"stored": 0}


def test_a_tag_for_each_point(api: Caller, channel: Channel) -> None:
    points = [{"value": n, "tag": f"t{n}"} for n in range(3000)]
    assert document(api.post("stream/0", points)) == {"stored": 3000}
    assert [row["tag"] for row in stored(api)] == [f"t{n}" for n in range(3000)]


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


def now(**offset: float) -> str:
    return without_colon(timezone.now() + timedelta(**offset), timezone.get_default_timezone())


def a_point(**fields: Any) -> str:
    return json.dumps({"value": 1} | fields)


BAD_POINTS = [
    ('{"tag": "t"}', ".value"),
    ('{"value": null}', ".value"),
    ('{"value": [1]}', ".value"),
    ('{"value": "a\\u0000b"}', ".value"),
    ('{"value": {"a": ["\\u0000"]}}', ".value"),
    ('{"value": {"a\\u0000": 1}}', ".value"),
    ('{"value": "\\ud800"}', ".value"),
    ('{"value": {"a": {"\\udc00": 1}}}', ".value"),
    ('{"value": 1e400}', ".value"),
    ('{"value": {"x": -1E-999999}}', ".value"),
    ('{"value": %s}' % ("9" * 1001), ".value"),
    (f'{{"value": {nested(33)}}}', ".value"),
    pytest.param(f'{{"value": {nested(300)}}}', ".value", id="deeper than orjson writes"),
    ('{"value": 1, "tag": ""}', ".tag"),
    ('{"value": 1, "tag": "a//b"}', ".tag"),
    ('{"value": 1, "tag": "a\\u0000"}', ".tag"),
    ('{"value": 1, "tag": 1.5}', ".tag"),
    ('{"value": 1, "tag": "%s"}' % ("x" * 129), ".tag"),
    ('{"value": 1, "at": 17383}', ".at"),
    ('{"value": 1, "at": 173.5}', ".at"),
    ('{"value": 1, "at": "soon"}', ".at"),
    ('{"value": 1, "at": "1999-12-31T23:59:59Z"}', ".at"),
    ('{"value": 1, "at": "0001-01-01 00:00"}', ".at"),
    pytest.param(a_point(at=now(days=2)), ".at", id="the day after tomorrow"),
]


@pytest.mark.parametrize(("point", "place"), BAD_POINTS)
def test_a_bad_point_is_named_and_nothing_stored(
    api: Caller, channel: Channel, point: str, place: str
) -> None:
    response = api.post("stream/0", point.encode())
    assert refusal(response) == (400, "BAD_PARAMETER")
    assert document(response)["detail"].startswith(f"{place[1:]}: ")
    response = api.post("stream/0", f'[{{"value": 1, "tag": "t"}}, {point}, {{}}]'.encode())
    assert refusal(response) == (400, "BAD_PARAMETER")
    assert document(response)["detail"].startswith(f"[1]{place}: ")
    assert stored(api) == []
    assert not Tag.objects.exists()


def test_just_within_the_limits(api: Caller, channel: Channel) -> None:
    for value in (nested(32), f'"{"x" * 65534}"', "9" * 308, "1e308", "5e-324", "true"):
        assert api.post("stream/0", f'{{"value": {value}}}'.encode()).status_code == 201
    assert api.post("stream/0", {"value": 1, "at": now(hours=23)}).status_code == 201


@pytest.mark.parametrize("text", ['"%s"' % ("x" * 65535), '{"a": "%s"}' % ("é" * 32768)])
def test_a_value_too_large(api: Caller, channel: Channel, text: str) -> None:
    response = api.post("stream/0", f'[{{"value": 1}}, {{"value": {text}}}]'.encode())
    assert refusal(response) == (413, "TOO_LARGE")
    assert document(response)["detail"].startswith("[1].value: ")
    assert stored(api) == []


@pytest.mark.parametrize(
    "body",
    [
        b"12.5",
        b'"x"',
        b"null",
        b"[1]",
        b"[[]]",
        b'{"value": NaN}',
        b'{"value": -Infinity}',
        b"v=1",
        b"{",
    ],
)
def test_what_is_no_datapoint(api: Caller, channel: Channel, body: bytes) -> None:
    assert refusal(api.post("stream/0", body)) == (400, "BAD_JSON_FORMAT")


def test_no_such_channel(api: Caller) -> None:
    assert refusal(api.post("stream/0", {"value": 1})) == (404, "NO_CHANNEL")
