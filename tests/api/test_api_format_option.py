"""`?format=`: for what can't send headers of its own."""

import csv
import io
import json
from typing import Any

import pytest
from api_calls import Caller, at, document, refusal, store

from thingscale.streams.models import Channel

WHOLE = "starttime=2000-01-01&endtime=2099-12-31"


@pytest.fixture
def rows(channel: Channel) -> list[tuple[str, str]]:
    rows = [("00:10", '{"t": 1, "a.b": {"c": 2}}'), ("00:20", '{"t": 3}'), ("01:10", "5"), ("01:20", '"=on"')]
    store(channel, [(at(f"2026-01-31 {time}:00"), value) for time, value in rows])
    return rows


def text(answer: Any) -> str:
    assert answer.status_code == 200, answer.content
    content = answer.getvalue() if answer.streaming else answer.content
    return str(content, "utf-8")


def table(answer: Any) -> list[list[str]]:
    assert answer["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert answer["Content-Disposition"] == 'attachment; filename="channel-0.csv"'
    return list(csv.reader(io.StringIO(text(answer), newline=""), strict=True))


@pytest.mark.parametrize(
    ("name", "accept"),
    [
        ("csv", "text/csv"),
        ("ndjson", "application/x-ndjson"),
        ("json", "application/json"),
        ("CSV", "text/csv"),
    ],
)
def test_it_goes_before_accept(api: Caller, rows: Any, name: str, accept: str) -> None:
    for path in (f"stream/0?{WHOLE}", "stream/0?endtime=last&pagelimit=2"):
        wanted = api.get(path, Accept=accept)
        for other in ("*/*", "text/csv", "application/x-ndjson"):
            answer = api.get(f"{path}&format={name}", Accept=other)
            assert (answer["Content-Type"], text(answer)) == (wanted["Content-Type"], text(wanted))
            wanted = api.get(path, Accept=accept)
        assert text(api.get(path, X_FORMAT=name)) == text(wanted)


def test_an_unknown_one_is_refused(api: Caller, channel: Channel) -> None:
    assert refusal(api.get(f"stream/0?{WHOLE}&format=xml")) == (400, "BAD_PARAMETER")
    assert refusal(api.get("stream/0?endtime=last&format=xml")) == (400, "BAD_PARAMETER")


def test_buckets_are_a_table(api: Caller, rows: Any) -> None:
    answer = api.get(f"stream/0?{WHOLE}&interval=1h&aggregate=max&format=csv")
    assert table(answer) == [
        ["at", "value", "a\\.b.c", "t", ".value", "rest"],
        ["2026-01-31T09:00:00+0900", "", "2", "3", "", ""],
        ["2026-01-31T10:00:00+0900", "", "", "", "5", ""],
    ]
    lines = text(api.get(f"stream/0?{WHOLE}&interval=1h&aggregate=max&format=ndjson")).splitlines()
    result = document(api.get(f"stream/0?{WHOLE}&interval=1h&aggregate=max"))["result"]
    assert [json.loads(line) for line in lines] == result


def test_whole_values_are_in_one_column(api: Caller, rows: Any) -> None:
    answer = api.get(f"stream/0?{WHOLE}&interval=1h&aggregate=last&format=csv&spreadsheet=1&sep=semicolon")
    marked = text(answer)
    assert marked.startswith("\ufeffat;value;rest\r\n")
    assert list(csv.reader(io.StringIO(marked[1:], newline=""), delimiter=";"))[1:] == [
        ["2026-01-31T09:00:00+0900", '{"t": 3}', ""],
        ["2026-01-31T10:00:00+0900", "'=on", ""],
    ]


def test_one_aggregate_is_a_row(api: Caller, rows: Any) -> None:
    assert table(api.get(f"stream/0?{WHOLE}&aggregate=sum&format=csv")) == [
        ["at", "value", "a\\.b.c", "t", ".value", "rest"],
        ["", "", "2", "4", "5", ""],
    ]
    (line,) = text(api.get(f"stream/0?{WHOLE}&aggregate=sum&format=ndjson")).splitlines()
    assert [json.loads(line)] == document(api.get(f"stream/0?{WHOLE}&aggregate=sum"))["result"]


def test_what_has_no_column_is_in_the_last(api: Caller, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.v2.aggregates.MAX_COLUMNS", 1)
    assert table(api.get(f"stream/0?{WHOLE}&aggregate=sum&format=csv"))[1] == [
        "",
        "",
        "2",
        '{"t":4,"value":5}',
    ]


def test_a_negative_number_is_no_formula(api: Caller, channel: Channel) -> None:
    store(channel, [(at("2026-01-31 00:00:00"), "-5")])
    answer = text(api.get(f"stream/0?{WHOLE}&interval=1h&format=csv&spreadsheet=1"))
    assert answer.endswith(",-5,\r\n")


def test_nothing_is_an_empty_table(api: Caller, channel: Channel) -> None:
    for query in ("aggregate=sum", "interval=1h", "interval=1h&aggregate=first"):
        assert table(api.get(f"stream/0?{WHOLE}&{query}&format=csv")) == [["at", "value", "rest"]]
        assert text(api.get(f"stream/0?{WHOLE}&{query}&format=ndjson")) == ""


def test_accept_alone_leaves_an_aggregate_what_it_was(api: Caller, rows: Any) -> None:
    for query in ("aggregate=sum", "interval=1h"):
        plain = api.get(f"stream/0?{WHOLE}&{query}")
        for accept in ("text/csv", "application/x-ndjson"):
            answer = api.get(f"stream/0?{WHOLE}&{query}", Accept=accept)
            assert (answer["Content-Type"], text(answer)) == ("application/json", text(plain))


def test_another_account_has_no_such_channel(outsider: Caller, rows: Any) -> None:
    for query in ("", "&interval=1h", "&aggregate=sum"):
        assert refusal(outsider.get(f"stream/0?{WHOLE}{query}&format=csv")) == (404, "NO_CHANNEL")
