"""GET, POST, PUT, DELETE /v2/channel."""

from collections.abc import Callable
from typing import Any

import pytest
from api_calls import Caller, at, document, refusal, store

from thingscale.accounts.models import User
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.models import Channel, Latest, Tag

EMPTY: dict[str, Any] = {"channel_name": "", "last_update": None, "streams": [], "retention_days": None}


def test_a_new_channel(api: Caller) -> None:
    response = api.post("channel/3")
    assert (response.status_code, document(response)) == (201, {"result": "OK"})
    assert document(api.get("channel")) == document(api.get("channel/3")) == [{"channel": 3} | EMPTY]
    assert api.post("channel/2147483647", {"channel_name": "é"}).status_code == 201
    assert [row["channel"] for row in document(api.get("channel"))] == [3, 2147483647]


@pytest.mark.parametrize("number", ["-1", "2147483648", "x", "1.0", "007", "٣", "%00", "9" * 5000])
def test_impossible_numbers(api: Caller, number: str) -> None:
    assert refusal(api.post(f"channel/{number}")) == (400, "BAD_PARAMETER")
    assert refusal(api.get(f"channel/{number}")) == (404, "NO_CHANNEL")
    assert refusal(api.put(f"channel/{number}", {})) == (404, "NO_CHANNEL")
    assert refusal(api.delete(f"channel/{number}")) == (404, "NO_CHANNEL")
    assert refusal(api.get(f"stream/{number}", X_ENDTIME="last")) == (404, "NO_CHANNEL")


def test_a_number_in_use_and_one_too_many(api: Caller, owner: User, channel: Channel) -> None:
    assert refusal(api.post("channel/0")) == (403, "CHANNEL_INUSE")
    User.objects.filter(pk=owner.pk).update(max_channels=1)
    assert refusal(api.post("channel/1")) == (403, "MAX_CHANNEL_REACH")


def test_changing_a_channel(api: Caller, channel: Channel) -> None:
    streams = [{"key": "temp", "label": "Temperature", "unit": "°C"}, {"key": "h", "label": "", "unit": ""}]
    changes = {"channel_name": "roof", "streams": streams, "retention_days": 30}
    response = api.put("channel/0", changes)
    assert (response.status_code, document(response)) == (200, {"result": "OK"})
    assert document(api.get("channel/0")) == [{"channel": 0, "last_update": None} | changes]
    api.put("channel/0", {"retention_days": None, "streams": [{"key": "temp"}]})
    (row,) = document(api.get("channel/0"))
    assert row["streams"] == [{"key": "temp", "label": "", "unit": ""}]
    assert (row["channel_name"], row["retention_days"]) == ("roof", None)
    assert api.put("channel/0", row).status_code == 200
    assert document(api.get("channel/0")) == [row]


def test_the_older_names_of_labels(api: Caller, channel: Channel) -> None:
    api.put("channel/0", {"streams": [{"key": "value2", "unit": "%"}]})
    sent = {"value1_name": "Temperature", "value1_unit": "°C", "value2_name": "Humidity", "value4_unit": "V"}
    assert api.put("channel/0", sent).status_code == 200
    assert document(api.get("channel/0"))[0]["streams"] == [
        {"key": "value2", "label": "Humidity", "unit": "%"},
        {"key": "value", "label": "Temperature", "unit": "°C"},
        {"key": "value4", "label": "", "unit": "V"},
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channel_name", "x" * 201),
        ("channel_name", "\0"),
        ("channel_name", None),
        ("retention_days", 0),
        ("retention_days", 2**31),
        ("retention_days", "soon"),
        ("streams", {}),
        ("streams[0]", [1]),
        ("streams[1].key", [{"key": "a"}, {"label": "b"}]),
        ("streams[0].unit", [{"key": "a", "unit": "\0"}]),
        ("streams", [{"key": "a"}, {"key": "a"}]),
        ("streams", [{"key": str(n)} for n in range(1001)]),
        ("value1_name", ["x"]),
        ("value4_unit", "\0"),
    ],
)
def test_a_bad_field_is_named(api: Caller, channel: Channel, field: str, value: Any) -> None:
    body = {field.split("[", maxsplit=1)[0]: value}
    for call, path in ((api.put, "channel/0"), (api.post, "channel/1")):
        response = call(path, body)
        assert refusal(response) == (400, "BAD_PARAMETER")
        assert document(response)["detail"].startswith(f"{field}: ")


def test_deleting_a_channel(api: Caller, owner: User, channel: Channel) -> None:
    api.post("device/x", {"mapped_ch": 0})
    api.post("stream/0", {"value": 1})
    response = api.delete("channel/0")
    assert (response.status_code, document(response)) == (200, {"result": "OK"})
    assert refusal(api.get("stream/0", X_ENDTIME="last")) == (404, "NO_CHANNEL")
    assert document(api.get("device/x"))[0]["mapped_ch"] is None
    api.post("channel/0")
    assert document(api.get("stream/0", X_ENDTIME="last"))["stream"] == []


def test_last_update_is_that_of_the_newest_datapoint(api: Caller, channel: Channel) -> None:
    store(channel, [(at("2026-01-31 12:00:09.9"), "1"), (at("2026-01-31 12:00:00"), "1", "t")])
    store(channel, [(at("2026-01-30 12:00:00"), "1")])
    assert document(api.get("channel"))[0]["last_update"] == "2026-01-31T21:00:09+0900"


def test_a_row_for_each_tag(api: Caller, owner: User, channel: Channel) -> None:
    store(channel, [(at("2026-01-31 12:00:00"), "1", "b"), (at("2026-01-31 12:00:01"), "1", "a")])
    both = create_channel(owner, 1)
    store(both, [(at("2026-01-31 12:00:02"), "1"), (at("2026-01-31 12:00:03"), "1", "é")])
    create_channel(owner, 2)
    rows = document(api.get("channel", X_WITHTAG="true"))
    assert [(row["channel"], row["tag"], row["last_update"]) for row in rows] == [
        (0, "a", "2026-01-31T21:00:01+0900"),
        (0, "b", "2026-01-31T21:00:00+0900"),
        (1, None, "2026-01-31T21:00:02+0900"),
        (1, "é", "2026-01-31T21:00:03+0900"),
        (2, None, None),
    ]
    assert document(api.get("channel/1?withtag=1")) == rows[2:4]
    assert "tag" not in document(api.get("channel", X_WITHTAG="false"))[0]
    assert refusal(api.get("channel", X_WITHTAG="maybe")) == (400, "BAD_PARAMETER")


def test_making_renaming_and_deleting_a_tag(api: Caller, owner: User, channel: Channel) -> None:
    utf8 = "é".encode().decode("latin-1")  # as header bytes arrive
    assert api.post("channel/0", X_TAGNAME=utf8).status_code == 201
    assert refusal(api.post("channel/0", X_TAGNAME=utf8)) == (403, "CHANNEL_INUSE")
    store(channel, [(at("2026-01-31 12:00:00"), "1", "é"), (at("2026-01-31 12:00:01"), "2", "other")])
    assert api.put("channel/0", {"tag": "e f"}, X_TAGNAME=utf8).status_code == 200
    stream = document(api.get("stream/0?tagname=e f", X_ENDTIME="last"))["stream"]
    assert [(row["tag"], row["value"]) for row in stream] == [("e f", 1)]
    assert api.delete("channel/0", X_TAGNAME="e f").status_code == 200
    left = document(api.get("stream/0", X_ENDTIME="last", X_PAGELIMIT="9"))["stream"]
    assert [row["tag"] for row in left] == ["other"]
    assert list(Tag.objects.values_list("name", flat=True)) == ["other"]
    assert Latest.objects.shown().filter(channel=channel).count() == 1


def test_what_a_tag_can_not_do(api: Caller, channel: Channel, outsider: Caller) -> None:
    for name in ("a", "b"):
        api.post("channel/0", X_TAGNAME=name)
    for method in ("POST", "PUT", "DELETE"):
        sent = {"tag": "c"} if method != "DELETE" else None
        assert refusal(outsider(method, "channel/0", sent, X_TAGNAME="a")) == (404, "NO_CHANNEL")
    assert refusal(api.put("channel/0", {"tag": "c"}, X_TAGNAME="x")) == (404, "NO_CHANNEL")
    assert refusal(api.delete("channel/0", X_TAGNAME="x")) == (404, "NO_CHANNEL")
    assert refusal(api.post("channel/9", X_TAGNAME="x")) == (404, "NO_CHANNEL")
    for body in ({"tag": "b"}, {"tag": ""}, {"tag": "a//b"}, {"tag": "\0"}, {"tag": None}, {}):
        response = api.put("channel/0", body, X_TAGNAME="a")
        assert refusal(response) == (400, "BAD_PARAMETER")
        assert document(response)["detail"].startswith("tag: ")
    for name in ("a//b", "x" * 129, "a\x01"):
        assert refusal(api.post("channel/0", X_TAGNAME=name)) == (400, "BAD_PARAMETER")
    assert refusal(api.get("stream/0?tagname=%00", X_ENDTIME="last")) == (400, "BAD_PARAMETER")


def test_a_tag_can_keep_its_name(api: Caller, channel: Channel) -> None:
    api.post("channel/0", X_TAGNAME="a")
    assert api.put("channel/0", {"tag": "a"}, X_TAGNAME="a").status_code == 200


def test_few_queries(
    api: Caller, owner: User, django_assert_max_num_queries: Callable[[int], Any], outsider: Caller
) -> None:
    for number in range(20):
        created = create_channel(owner, number)
        store(created, [(at("2026-01-31 12:00:00"), "1", f"t{tag}") for tag in range(3)])
    with django_assert_max_num_queries(3):  # token, channels, their newest
        assert len(document(api.get("channel"))) == 20
    with django_assert_max_num_queries(5):  # and tags, and the newest by tag
        assert len(document(api.get("channel?withtag=true"))) == 60
