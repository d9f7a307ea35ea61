"""/v1: older clients."""

import json
from typing import Any

import pytest
from api_calls import Caller, at, document, refusal, store

from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.streams import queries
from thingscale.streams.models import Channel

WHOLE = {"X_STARTTIME": "2000-01-01 00:00", "X_ENDTIME": "2099-12-31 23:59"}
NOTHING: dict[str, Any] = {"value": None, "value2": None, "value3": None, "value4": None}


@pytest.fixture
def v1(owner: User) -> Caller:
    return Caller(owner, version="v1")


def test_channels(v1: Caller, api: Caller, channel: Channel) -> None:
    api.put("channel/0", {"value1_name": "Temperature", "value1_unit": "°C", "value3_name": "Humidity"})
    store(channel, [(at("2015-02-05 23:26:29"), "1", "t")])
    row = {"channel": 0, "channel_name": "sensor_1", "last_update": "2015-02-06T08:26:29+0900"}
    row |= {f"value{n}_{part}": "" for n in range(1, 5) for part in ("name", "unit")}
    row |= {"value1_name": "Temperature", "value1_unit": "°C", "value3_name": "Humidity"}
    for path in ("channel", "channel/", "channel/0", "channel/0/"):
        assert document(v1.get(path)) == [row]


def test_devices_are_those_of_v2(v1: Caller, api: Caller, channel: Channel, owner: User) -> None:
    create_device(owner, "x", mapped_channel=channel)
    assert document(v1.get("device")) == document(v1.get("device/")) == document(api.get("device"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("12.50", {"value": 12.5}),
        ('"é"', {"value": "é"}),
        ('{"value": 1, "value2": "b", "value4": 4.5}', {"value": 1, "value2": "b", "value4": 4.5}),
        ('{"value3": 3}', {"value3": 3}),
        ('{"temp": 20}', {"value": {"temp": 20}}),
        ('{"value": 1, "temp": 20}', {"value": {"value": 1, "temp": 20}}),
        ("{}", {"value": {}}),
        ("[1]", {"value": [1]}),
        ("true", {"value": True}),
        ("null", {}),
    ],
)
def test_a_datapoint_of_v2(v1: Caller, channel: Channel, value: str, shown: dict[str, Any]) -> None:
    store(channel, [(at("2015-02-05 23:26:29"), value, "t")])
    body = document(v1.get("stream/0", X_ENDTIME="last"))
    (row,) = body.pop("stream")
    assert body == {"channel": 0, "channel_name": "sensor_1", "last_update": "2015-02-06T08:26:29+0900"}
    assert len(row.pop("_id")) == 24
    assert row == {**NOTHING, **shown, "at": "2015-02-06T08:26:29+0900"}


def test_the_same_options(v1: Caller, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "PAGE", 2)
    store(channel, [(at(f"2026-01-31 00:00:0{n}"), f'{{"value2": {n}}}', "ab"[n % 2]) for n in range(7)])

    def values(**options: str) -> list[int]:
        return [row["value2"] for row in document(v1.get("stream/0", **options))["stream"]]

    assert values(X_ENDTIME="last", X_PAGELIMIT="3") == [4, 5, 6]
    assert values(**WHOLE, X_PAGESORT="desc") == [6, 5, 4, 3, 2, 1, 0]
    assert values(**WHOLE, X_TAGNAME="b") == [1, 3, 5]
    assert values(X_STARTTIME="2026-01-31 09:00:02", X_ENDTIME="2026-01-31 09:00:04") == [2, 3, 4]
    assert refusal(v1.get("stream/0")) == (400, "BAD_PARAMETER")


def test_aggregates_are_those_of_the_rows(v1: Caller, channel: Channel) -> None:
    values = ["1", '{"value": 3, "value2": 10}', '{"value2": 20, "value3": "text"}', '{"temp": 7}', '"x"']
    store(channel, [(at("2026-01-31 00:00:00"), value) for value in values])
    body = document(v1.get("stream/0", X_AGGREGATE="max", **WHOLE))
    assert body["aggr_type"] == "max"
    assert body["result"] == [
        {"_id": None, **NOTHING, "value": {"temp": 7, "value": 3}, "value2": 20, "at": None}
    ]
    before = {"X_ENDTIME": "2026-01-30 00:00"}
    assert document(v1.get("stream/0", X_AGGREGATE="max", **before))["result"] == []


def test_numbers_and_objects_are_one_series(v1: Caller, channel: Channel) -> None:
    store(channel, [(at("2026-01-31 00:00:00"), value) for value in ("1", '{"value": 3}')])
    (row,) = document(v1.get("stream/0", X_AGGREGATE="avg", **WHOLE))["result"]
    assert row == {"_id": None, **NOTHING, "value": 2, "at": None}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("channel/7", "NO_CHANNEL"),
        ("channel/007", "NO_CHANNEL"),
        ("stream/7?endtime=last", "NO_CHANNEL"),
        ("", "NOT_FOUND"),
        ("user", "NOT_FOUND"),
        ("event", "NOT_FOUND"),
        ("device/x", "NOT_FOUND"),
    ],
)
def test_what_is_not_there(v1: Caller, path: str, code: str) -> None:
    assert refusal(v1.get(path)) == (404, code)


@pytest.mark.parametrize("path", ["channel", "channel/0", "stream/0?endtime=last", "device", "nothing"])
def test_without_the_right_token(owner: User, channel: Channel, path: str) -> None:
    assert refusal(Caller(None, "F" * 32, "v1").get(path)) == (401, "AUTH_REQUIRED")
    assert refusal(Caller(None, version="v1").get(path)) == (401, "AUTH_REQUIRED")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["channel", "channel/0", "stream/0", "device"])
def test_reading_only(v1: Caller, channel: Channel, method: str, path: str) -> None:
    response = v1(method, path, {"value": 1})
    assert refusal(response) == (405, "METHOD_NOT_ALLOWED")
    assert set(response["Allow"].split(", ")) == {"GET", "HEAD"}


def test_an_outsider_sees_nothing(outsider: Caller, channel: Channel, owner: User) -> None:
    create_device(owner, "x")
    other = Caller(outsider.user, version="v1")
    assert document(other.get("channel")) == document(other.get("device")) == []
    assert refusal(other.get("channel/0")) == (404, "NO_CHANNEL")
    assert refusal(other.get("stream/0?endtime=last")) == (404, "NO_CHANNEL")


def test_it_is_streamed(v1: Caller, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "PAGE", 2)
    store(channel, [(at(f"2026-01-31 00:00:0{n}"), str(n)) for n in range(5)])
    response = v1.get("stream/0", **WHOLE)
    chunks = list(response.streaming_content)
    assert len(chunks) == 2 + 3
    assert [row["value"] for row in json.loads(b"".join(chunks))["stream"]] == list(range(5))
