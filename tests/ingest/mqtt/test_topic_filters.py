"""Section 4.7 of both specifications, and shared subscriptions (MQTT 5, section 4.8.2)."""

import pytest

from ingest.mqtt.codec import topic_matches, valid_topic_filter, valid_topic_name


@pytest.mark.parametrize("name", ["a", "/", "/a", "a//b", " ", "$SYS/x", "a\x1fb", "ä/ö", "x" * 65535])
def test_valid_topic_name(name: str) -> None:
    assert valid_topic_name(name)


@pytest.mark.parametrize("name", ["", "a/+", "a+", "#", "a\0b", "\ud800", "x" * 65536, "ä" * 32768])
def test_invalid_topic_name(name: str) -> None:
    assert not valid_topic_name(name)


@pytest.mark.parametrize(
    "filter_",
    [
        "#",
        "+",
        "/",
        "/+",
        "a/#",
        "+/+/#",
        "a/+/b",
        "//",
        "$SYS/#",
        "$share/g/#",
        "$share/g/+/a",
        "$share/g//",
        "$share",
    ],
)
def test_valid_topic_filter(filter_: str) -> None:
    assert valid_topic_filter(filter_)


@pytest.mark.parametrize(
    "filter_",
    [
        *("", "a#", "#/a", "a/#/b", "a+", "+a/b", "a/b+", "##", "a\0", "\udfff", "x" * 65536),
        *(
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/+/a",
            "$share/#",
            "$share/g#/a",
            "$share/g/a#",
        ),
    ],
)
def test_invalid_topic_filter(filter_: str) -> None:
    assert not valid_topic_filter(filter_)


@pytest.mark.parametrize(
    ("filter_", "topic", "expected"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("sport/#", "sports", False),
        ("#", "a/b", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("a/b", "a", False),
        ("a", "a/b", False),
        ("a", "A", False),
        ("#", "$SYS/monitor", False),
        ("+/monitor", "$SYS/monitor", False),
        ("$SYS/#", "$SYS/monitor", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        ("$share/g/a/+", "a/b", True),
        ("$share/g/#", "$SYS/a", False),
        ("$share/g/a", "b", False),
    ],
)
def test_topic_matches(filter_: str, topic: str, expected: bool) -> None:
    assert topic_matches(filter_, topic) is expected
