"""DELETE /v2/channel/{id} with X-TAGNAME: no reader sees the tag again, long before it is purged."""

from datetime import timedelta
from typing import Any

import pytest
from api_calls import Caller, at, document, store
from pytest_django import Settings

from thingscale.streams.models import Channel, Latest

START = at("2026-01-31 00:00:00")
WHOLE = {"X_STARTTIME": "2000-01-01 00:00", "X_ENDTIME": "2099-12-31 23:59"}
LAST = {"X_ENDTIME": "last", "X_PAGELIMIT": "9"}
GONE, KEPT, PLAIN = 1000, 1, 2


@pytest.fixture(autouse=True)
def deleted(api: Caller, channel: Channel) -> None:
    """Three datapoints: of a deleted tag, which is the newest and the largest, of another one, of none."""
    store(channel, [(START, str(PLAIN)), (START + timedelta(days=1), str(KEPT), "kept")])
    store(channel, [(START + timedelta(days=2), str(GONE), "gone")])
    assert api.delete("channel/0", X_TAGNAME="gone").status_code == 200
    assert Latest.objects.count() == 3


def values(api: Caller, **options: str) -> list[Any]:
    return [row["value"] for row in document(api.get("stream/0", **options))["stream"]]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_ranges_and_newest(api: Caller, version: str) -> None:
    api.version = version
    for options in (WHOLE, LAST):
        assert values(api, **options) == [PLAIN, KEPT]
        assert values(api, X_PAGESORT="desc", **options) == [KEPT, PLAIN]
        assert values(api, X_TAGNAME="gone", **options) == []
        assert values(api, X_TAGNAME="kept", **options) == [KEPT]
    assert values(api, X_ENDTIME="last") == [KEPT]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_aggregates(api: Caller, version: str) -> None:
    api.version = version
    (row,) = document(api.get("stream/0", X_AGGREGATE="max", **WHOLE))["result"]
    assert row["value"] == PLAIN


@pytest.mark.parametrize(("function", "shown"), [("sum", [2, 1]), ("count", [1, 1]), ("last", [2, 1])])
def test_intervals(api: Caller, function: str, shown: list[int]) -> None:
    options = {"X_AGGREGATE": function, "X_INTERVAL": "1d", **WHOLE}
    assert [row["value"] for row in document(api.get("stream/0", **options))["result"]] == shown


@pytest.mark.parametrize("accept", ["text/csv", "application/x-ndjson"])
def test_tables_and_lines(api: Caller, channel: Channel, accept: str) -> None:
    store(channel, [(START, '{"hidden": 1}', "gone too")])
    assert api.delete("channel/0", X_TAGNAME="gone too").status_code == 200
    body = api.get("stream/0", Accept=accept, **WHOLE).getvalue().decode()
    assert body.count("2026-") == 2
    assert "1000" not in body
    assert "hidden" not in body  # no column either


def test_times_counts_and_storage(api: Caller) -> None:
    newest = "2026-02-01T09:00:00+0900"
    assert document(api.get("stream/0", X_ENDTIME="last"))["last_update"] == newest
    assert document(api.get("channel"))[0]["last_update"] == newest
    rows = document(api.get("channel/0", X_WITHTAG="true"))
    assert [(row["tag"], row["last_update"]) for row in rows] == [
        (None, "2026-01-31T09:00:00+0900"),
        ("kept", newest),
    ]
    storage = document(api.get("user"))[0]["storage"]
    assert (storage["count"], storage["usage_bytes"], storage["avg_obj_size"]) == (2, 2, 1)


def test_the_size_of_a_range(api: Caller, settings: Settings) -> None:
    settings.STREAM_MAX_ROWS = 2
    assert values(api, **WHOLE) == [PLAIN, KEPT]


def test_a_tag_comes_into_being_again(api: Caller) -> None:
    assert api.post("stream/0", {"value": 5, "tag": "gone"}).status_code == 201
    assert values(api, X_TAGNAME="gone", **WHOLE) == [5]
    assert values(api, **WHOLE) == [PLAIN, KEPT, 5]


def test_another_users_tag_stays(outsider: Caller, api: Caller) -> None:
    assert outsider.delete("channel/0", X_TAGNAME="kept").status_code == 404
    assert values(api, X_TAGNAME="kept", **WHOLE) == [KEPT]
