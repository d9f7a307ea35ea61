"""What a topic behind the token means (docs/contract.md, MQTT)."""

import pytest

from ingest.message import Kind, Reason
from ingest.topics import Target, split, split_filter, target

LONG = "x" * 64


@pytest.mark.parametrize(
    ("topic", "parts"),
    [
        ("TOKEN/json/d1", ("TOKEN", "json/d1")),
        ("TOKEN", ("TOKEN", "")),
        ("/d1", ("", "d1")),
        ("T/", ("T", "")),
    ],
)
def test_the_token_comes_first(topic: str, parts: tuple[str, str]) -> None:
    assert split(topic) == parts


@pytest.mark.parametrize(
    ("rest", "kind", "device_id", "tag"),
    [
        ("json/d1", Kind.JSON, "d1", None),
        ("json/d1/kitchen", Kind.JSON, "d1", "kitchen"),
        ("binary/d1", Kind.BINARY, "d1", None),
        ("binary/d1/t", Kind.BINARY, "d1", "t"),
        ("state/d1", Kind.STATE, "d1", None),
        ("d1", Kind.FORM, "d1", None),
        ("json", Kind.FORM, "json", None),
        ("json/json/json", Kind.JSON, "json", "json"),
        ("json/subscribe", Kind.JSON, "subscribe", None),
        ("json/a b.c", Kind.JSON, "a b.c", None),
        ("json/温度計/台所", Kind.JSON, "温度計", "台所"),
        (f"json/{LONG}/{LONG}", Kind.JSON, LONG, LONG),
        ("json/00", Kind.JSON, "00", None),
        ("json/d1/sensor/temp/state", Kind.JSON, "d1", "sensor/temp/state"),
        ("binary/d1/a/b", Kind.BINARY, "d1", "a/b"),
        ("json/d1/subscribe/x", Kind.JSON, "d1", "subscribe/x"),
        (f"json/d1/{LONG}/{LONG[1:]}", Kind.JSON, "d1", f"{LONG}/{LONG[1:]}"),
    ],
)
def test_ingest_topics(rest: str, kind: Kind, device_id: str, tag: str | None) -> None:
    assert target(rest) == Target(kind, device_id, tag)


@pytest.mark.parametrize(
    "rest", ["d1/subscribe", "d1/errors", "events/subscribe", f"{LONG}/errors", "é/subscribe"]
)
def test_topics_for_subscribers_only(rest: str) -> None:
    assert target(rest) == Target(None, rest.partition("/")[0])


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        *((rest, Reason.DEVICE_ID_ZERO) for rest in ("json/0", "0", "", "json/", "state/0", "binary//t")),
        *((rest, Reason.BAD_PARAMETER) for rest in (f"json/{LONG}x", f"{LONG}x", "json/a\tb", "json/\x9f")),
        *(
            (rest, Reason.UNKNOWN_TOPIC)
            for rest in ("json/d1/t//u", "json/d1/t/", "json/d1//t", "state/d1/t", "d1/x", "a/b/c", "text/d1")
        ),
        *((rest, Reason.UNKNOWN_TOPIC) for rest in ("json/d1/", f"json/d1/{LONG}/{LONG}", "json/d1/a\nb")),
        *(
            (rest, Reason.UNKNOWN_TOPIC)
            for rest in ("0/subscribe", "/errors", "d1/subscribe/x", f"{LONG}x/errors")
        ),
        *((rest, Reason.PLATFORM_TOPIC) for rest in ("events/1", "events/1/x", "events/", "events/errors/x")),
    ],
)
def test_refused_topics(rest: str, reason: Reason) -> None:
    found = target(rest)
    assert found.refused is reason
    assert len(found.device_id) <= 64


@pytest.mark.parametrize(
    ("topic_filter", "parts"),
    [
        ("TOKEN/#", ("", "TOKEN", "/#")),
        ("TOKEN", ("", "TOKEN", "")),
        ("#", ("", "#", "")),
        ("$share/g/TOKEN/d1/subscribe", ("$share/g/", "TOKEN", "/d1/subscribe")),
        ("$share/g/#", ("$share/g/", "#", "")),
        ("$SYS/x", ("", "$SYS", "/x")),
    ],
)
def test_a_filter_is_split_around_its_first_level(topic_filter: str, parts: tuple[str, str, str]) -> None:
    assert split_filter(topic_filter) == parts
