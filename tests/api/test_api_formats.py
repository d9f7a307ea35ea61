"""GET /v2/stream/{channel} as CSV and as lines of JSON, and its ETag."""

import csv
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from api_calls import Caller, at, document, refusal, store

from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.lib.clock import to_us
from thingscale.streams import csv_columns, queries, writer
from thingscale.streams.actions.datapoints import store_rows
from thingscale.streams.models import Channel

pytestmark = pytest.mark.slow
WHOLE = {"X_STARTTIME": "2000-01-01 00:00", "X_ENDTIME": "2099-12-31 23:59"}
CSV, LINES = "text/csv", "application/x-ndjson"


def text(response: Any) -> str:
    content = response.getvalue() if response.streaming else response.content
    return str(content, "utf-8")


def table(api: Caller, **options: str) -> list[list[str]]:
    response = api.get("stream/0", Accept=CSV, **(WHOLE | options))
    assert response["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert "Accept" in response["Vary"]
    return list(csv.reader(io.StringIO(text(response), newline=""), strict=True))


def one_a_second(channel: Channel, values: list[str]) -> None:
    begin = at("2026-01-31 00:00:00")
    store(channel, [(begin + timedelta(seconds=n), value) for n, value in enumerate(values)])


@pytest.mark.parametrize("page", [1, 2, 1000])
@pytest.mark.parametrize("options", [{}, {"X_PAGESORT": "desc"}, {"X_ENDTIME": "last", "X_PAGELIMIT": "3"}])
def test_lines_are_the_rows(
    api: Caller, channel: Channel, monkeypatch: pytest.MonkeyPatch, page: int, options: dict[str, str]
) -> None:
    monkeypatch.setattr(queries, "PAGE", page)
    one_a_second(channel, ["1", '"a\\nb"', '{"x": {"y": "é"}}', "2.50", "5"])
    rows = document(api.get("stream/0", **(WHOLE | options)))["stream"]
    response = api.get("stream/0", Accept=LINES, **(WHOLE | options))
    assert response["Content-Type"] == LINES
    body = text(response)
    assert body.endswith("\n")
    assert [json.loads(line) for line in body.splitlines()] == [{**row, "device_id": None} for row in rows]


def test_no_rows(api: Caller, channel: Channel) -> None:
    assert text(api.get("stream/0", Accept=LINES, **WHOLE)) == ""
    assert text(api.get("stream/0", Accept=CSV, **WHOLE)) == "id,at,tag,device,value,rest\r\n"


def test_columns_are_what_is_inside(api: Caller, channel: Channel) -> None:
    values = ['{"temp": 20.50, "gps": {"lat": 1, "lon": -2}, "on": true}', '{"temp": null, "s": "x"}', "7"]
    one_a_second(channel, [*values, '"text"'])
    head, *rows = table(api)
    assert head == ["id", "at", "tag", "device", "value", "gps.lat", "gps.lon", "on", "s", "temp", "rest"]
    assert [row[1] for row in rows] == [f"2026-01-31T09:00:0{n}+0900" for n in range(4)]
    assert [row[4:] for row in rows] == [
        ["", "1", "-2", "true", "", "20.50", ""],
        ["", "", "", "", "x", "", ""],
        ["7", "", "", "", "", "", ""],
        ["text", "", "", "", "", "", ""],
    ]
    ids = [row["_id"] for row in document(api.get("stream/0", **WHOLE))["stream"]]
    assert [row[0] for row in rows] == ids


@pytest.mark.parametrize("value", ['a"b', "a,b", "a\nb", "a\r\nb", "'", "%s %(x)s", "é", "", " ", "=1+1"])
def test_text_of_any_kind(api: Caller, channel: Channel, value: str) -> None:
    one_a_second(channel, [json.dumps({"k": value, "l": [value]}), json.dumps(value)])
    head, first, second = table(api)
    assert head[5:7] == ["k", "l"]
    assert (first[5], json.loads(first[6])) == (value, [value])
    assert second[4] == value


@pytest.mark.parametrize("key", ["a,b", 'a"b', "a%b", "%(x)s", "é", "a.b", "", "$row", "a\nb", "{}", "value"])
def test_keys_of_any_kind(api: Caller, channel: Channel, key: str) -> None:
    one_a_second(channel, [json.dumps({key: 1})])
    head, row = table(api)
    shown = {"a.b": r"a\.b", "": r"\e", "value": ".value"}.get(key, key)
    assert (head[5], row[5], row[-1]) == (shown, "1", "")


def test_tags(api: Caller, channel: Channel) -> None:
    store(channel, [(at("2026-01-31 00:00:00"), "1", 't,"'), (at("2026-01-31 00:00:01"), "2")])
    assert [row[2] for row in table(api)[1:]] == ['t,"', ""]
    assert len(table(api, X_TAGNAME='t,"')) == 2


def test_nothing_is_lost_that_has_no_column(
    api: Caller, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_columns, "SAMPLE", 1)
    middle = ['{"a": 2, "late": {"x": "y"}, "b": {"d": 4}}', '{"b": 5}', '{"a": {"deep": 1}}', '{"e": {}}']
    one_a_second(channel, ['{"a": 1, "b": {"c": 3}}', *middle, '{"a": 9}'])
    head, *rows = table(api)
    assert head[5:] == ["a", "b.c", "rest"]
    assert [row[5:7] for row in rows] == [
        ["1", "3"],
        ["2", ""],
        ["", ""],
        ['{"deep": 1}', ""],
        ["", ""],
        ["9", ""],
    ]
    rests = [json.loads(row[7]) if row[7] else None for row in rows]
    assert rests == [None, {"b": {"d": 4}, "late": {"x": "y"}}, {"b": 5}, None, None, None]


def test_an_object_wins_over_what_it_replaces(api: Caller, channel: Channel) -> None:
    one_a_second(channel, ['{"a": 1}', '{"a": {"b": 2}}'])
    head, first, second = table(api)
    assert head[5:] == ["a.b", "rest"]
    assert (first[5:], second[5:]) == (["", '{"a": 1}'], ["2", ""])


def test_only_so_many_columns(api: Caller, channel: Channel) -> None:
    value = {f"k{n:03}": n for n in range(csv_columns.MAX_COLUMNS + 5)}
    one_a_second(channel, [json.dumps(value)])
    head, row = table(api)
    assert len(head) == len(row) == 5 + csv_columns.MAX_COLUMNS + 1
    assert json.loads(row[-1]) == {
        f"k{n:03}": n for n in range(csv_columns.MAX_COLUMNS, csv_columns.MAX_COLUMNS + 5)
    }


@pytest.mark.parametrize("accept", [CSV, LINES])
def test_it_is_streamed(api: Caller, channel: Channel, monkeypatch: pytest.MonkeyPatch, accept: str) -> None:
    monkeypatch.setattr(queries, "PAGE", 100)
    one_a_second(channel, [f'{{"n": {n}}}' for n in range(1000)])
    response = api.get("stream/0", Accept=accept, **WHOLE)
    assert response.streaming
    chunks = list(response.streaming_content)
    assert len(chunks) == 10 + (accept == CSV)
    assert b"".join(chunks).count(b"\n") == 1000 + (accept == CSV)


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("*/*", "application/json"),
        ("text/html, text/csv;q=0.5", CSV),
        ("text/csv;q=0.2, application/x-ndjson;q=0.9", LINES),
        ("text/html, application/json, text/csv;q=0.9", "application/json"),
        ("image/png", "application/json"),
        ("text/csv;charset=utf-8", CSV),
        ("text/csv; header=present; charset=utf-8; q=1.0", CSV),
        ("Text/CSV", CSV),
        ("application/x-ndjson;charset=utf-8, */*;q=0.1", LINES),
        ("text/*", CSV),
        ("application/json;q=0, text/csv;q=0.1", CSV),
        ("text/csv;q=0, */*", "application/json"),
        ("text/csv, application/json", CSV),
        ("text/csv;q=high, application/json", "application/json"),
    ],
)
def test_what_the_client_prefers(api: Caller, channel: Channel, accept: str, answered: str) -> None:
    response = api.get("stream/0", Accept=accept, **WHOLE)
    assert response["Content-Type"].split(";")[0] == answered


def test_errors_and_aggregates_stay_json(api: Caller, channel: Channel) -> None:
    assert refusal(api.get("stream/0", Accept=CSV)) == (400, "BAD_PARAMETER")
    response = api.get("stream/0", Accept=CSV, X_AGGREGATE="avg", **WHOLE)
    assert (response["Content-Type"], document(response)["result"]) == ("application/json", [])


def test_a_file_name(api: Caller, channel: Channel) -> None:
    response = api.get("stream/0", Accept=CSV, **WHOLE)
    assert response["Content-Disposition"] == 'attachment; filename="channel-0.csv"'
    assert "Content-Disposition" not in api.get("stream/0", **WHOLE)


@pytest.mark.parametrize("accept", ["application/json", CSV, LINES])
def test_last_is_sent_once(api: Caller, channel: Channel, accept: str) -> None:
    one_a_second(channel, ["1", "2"])
    options = {"X_ENDTIME": "last", "Accept": accept}
    first = api.get("stream/0", **options)
    etag = first["ETag"]
    for sent in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = api.get("stream/0", If_None_Match=sent, **options)
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", etag)
    assert api.get("stream/0", If_None_Match='"x"', **options).content == first.content
    assert api.get("stream/0", If_None_Match=etag, X_PAGELIMIT="2", **options).status_code == 200
    one_a_second(channel, ["2"] * 3)
    assert api.get("stream/0", If_None_Match=etag, **options).status_code == 200


def test_another_name_or_zone_is_another_answer(api: Caller, channel: Channel) -> None:
    one_a_second(channel, ["1"])
    etags = [api.get("stream/0", X_ENDTIME="last")["ETag"]]
    api.put("channel/0", {"channel_name": "roof"})
    etags.append(api.get("stream/0", X_ENDTIME="last")["ETag"])
    api.put("user", {"locale": "Europe/Berlin"})
    etags.append(api.get("stream/0", X_ENDTIME="last")["ETag"])
    assert len(set(etags)) == 3


def test_a_range_and_a_large_page_have_none(api: Caller, channel: Channel) -> None:
    assert "ETag" not in api.get("stream/0", **WHOLE)
    assert "ETag" not in api.get("stream/0", X_ENDTIME="last", X_PAGELIMIT=str(queries.PAGE + 1))
    assert "ETag" in api.get("stream/0", X_ENDTIME="last", X_PAGELIMIT=str(queries.PAGE))


def read_by_name(api: Caller, **options: str) -> list[dict[str, str]]:
    head, *rows = table(api, **options)
    assert len(set(head)) == len(head), head
    return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("values", "lost_before"),
    [
        (['{"a":{"b":1}}', '{"a":[]}'], '{"a": []}'),
        (['{"a":{"b":1}}', '{"a":[{"b":2}]}'], '{"a": [{"b": 2}]}'),
        (['{"a":{"0":1}}', '{"a":[5]}'], '{"a": [5]}'),
        (['{"a":{"0":{"x":1}}}', '{"a":[{"x":2}]}'], '{"a": [{"x": 2}]}'),
        (['{"a":{"b":{"c":1}}}', '{"a":{"b":["c"]}}'], '{"a": {"b": ["c"]}}'),
    ],
)
def test_r3_an_object_beside_an_array_at_one_key(
    api: Caller, channel: Channel, values: list[str], lost_before: str
) -> None:
    one_a_second(channel, values)
    first, second = read_by_name(api)
    assert "1" in first.values()
    assert first["rest"] == ""
    assert json.loads(second["rest"]) == json.loads(lost_before)
    assert not {"2", "5"} & set(second.values())


def test_r4_every_column_has_a_name_of_its_own(api: Caller, channel: Channel) -> None:
    own = {name: name.upper() for name in ("id", "at", "tag", "device", "value", "rest")}
    values = [
        own,
        {"a.b": 1, "a": {"b": 2}},
        {"a\\": {"b": 3}, "a\\.b": 4},
        {"": {"value": 5}, ".value": 6},
        7,
    ]
    one_a_second(channel, [json.dumps(value) for value in values])
    rows = read_by_name(api)
    assert {name: rows[0][f".{name}"] for name in own} == own
    assert (rows[1][r"a\.b"], rows[1]["a.b"]) == ("1", "2")
    assert (rows[2][r"a\\.b"], rows[2][r"a\\\.b"]) == ("3", "4")
    assert (rows[3][r"\e.value"], rows[3][r"\.value"]) == ("5", "6")
    assert rows[4]["value"] == "7"


def test_r4_the_columns_of_v1_data(api: Caller, channel: Channel) -> None:
    one_a_second(channel, ['{"value": 1, "value2": 2}', "3"])
    assert [(row["value"], row[".value"], row["value2"]) for row in read_by_name(api)] == [
        ("", "1", "2"),
        ("3", "", ""),
    ]


@pytest.mark.parametrize(
    "path", [["a"], ["a", "b"], ["a.b"], [".a"], ["", "a"], ["a", ""], ["value"], ["\\e"], ["x", "rest"]]
)
def test_r4_a_name_is_of_one_path_only(path: list[str]) -> None:
    others = [
        ["a"],
        ["a", "b"],
        ["a.b"],
        [".a"],
        ["", "a"],
        ["a", ""],
        ["value"],
        ["\\e"],
        [""],
        [".value"],
        ["", "value"],
    ]
    assert [other for other in others if csv_columns.name(other) == csv_columns.name(path)] in ([path], [])


def test_r5_the_device_of_each_datapoint(
    api: Caller, owner: User, channel: Channel, outsider: Caller
) -> None:
    devices = [create_device(owner, name, mapped_channel=channel) for name in ("d,1", "=d2")]
    begin = to_us(at("2026-01-31 00:00:00"))
    store_rows(
        [
            writer.Row(channel.id, begin + n, device.id, None, b"%d" % n, None)
            for n, device in enumerate(devices)
        ]
    )
    assert [(row["device"], row["value"]) for row in read_by_name(api)] == [("d,1", "0"), ("=d2", "1")]
    lines = text(api.get("stream/0", Accept=LINES, **WHOLE)).splitlines()
    assert [json.loads(line)["device_id"] for line in lines] == ["d,1", "=d2"]
    rows = document(api.get("stream/0", **WHOLE))["stream"]
    assert set(rows[0]) == {"_id", "tag", "value", "at"}
    rows = document(api.get("stream/0", X_WITHDEVICE="true", **WHOLE))["stream"]
    assert [row["device_id"] for row in rows] == ["d,1", "=d2"]
    for options in (WHOLE, {"X_ENDTIME": "last", "X_PAGELIMIT": "9"}):
        rows = document(api.get("stream/0?deviceid==d2&withdevice=1", **options))["stream"]
        assert [(row["device_id"], row["value"]) for row in rows] == [("=d2", 1)]
        assert document(api.get("stream/0", X_DEVICEID="nobody", **options))["stream"] == []
    (result,) = document(api.get("stream/0", X_DEVICEID="=d2", X_AGGREGATE="sum", **WHOLE))["result"]
    assert result["value"] == 1
    outsider.post("channel/0")
    assert document(outsider.get("stream/0", X_DEVICEID="=d2", **WHOLE))["stream"] == []


@pytest.mark.parametrize(
    "value", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "＝1", "plain", "a=1"]
)
@pytest.mark.parametrize("sep", ["", "comma", "semicolon", "tab"])
def test_r5_for_a_spreadsheet_formulas_are_marked(
    api: Caller, channel: Channel, value: str, sep: str
) -> None:
    one_a_second(channel, [json.dumps({value: value}), json.dumps(value), "-5"])
    query = "stream/0?spreadsheet=1" + (f"&sep={sep}" if sep else "")
    made = text(api.get(query, Accept=CSV, **WHOLE))
    assert made.startswith("\ufeffid")
    delimiter = {"": ",", "comma": ",", "semicolon": ";", "tab": "\t"}[sep]
    head, first, second, third = csv.reader(
        io.StringIO(made[1:], newline=""), delimiter=delimiter, strict=True
    )
    shown = value if value in {"plain", "a=1"} else f"'{value}"
    assert (head[5], first[5], second[4], third[4]) == (shown, shown, shown, "-5")
    head, first, *_ = table(api)
    assert (head[5], first[5]) == (value, value)


def test_r5_a_separator_that_is_not_known(api: Caller, channel: Channel) -> None:
    assert refusal(api.get("stream/0?sep=x", Accept=CSV, **WHOLE)) == (400, "BAD_PARAMETER")
