import pytest

from thingscale.lib.names import valid_topic
from thingscale.lib.own_topics import MAX_BYTES, MAX_LEVELS, has_form, kept, of_command, sent, too_long

TOKEN = "0123456789ABCDEF" * 2


@pytest.mark.parametrize(
    "topic",
    ["cmnd/plug/POWER", "/leading", "a", "+", "#", "+/x", "Ü/x", TOKEN[1:], f"{TOKEN}0/x", f"a/{TOKEN}"],
)
def test_topics_without_a_token(topic: str) -> None:
    assert has_form(topic)
    assert sent("T/", kept(topic)) == topic


@pytest.mark.parametrize(
    "topic", ["$SYS/x", "$share", "$", TOKEN, f"{TOKEN}/json/d1", TOKEN.lower() + "/x", "aB" * 16 + "/x"]
)
def test_topics_that_are_none(topic: str) -> None:
    assert not has_form(topic)


def test_other_topics_get_the_token() -> None:
    assert sent("T/", "json/d1") == "T/json/d1"


@pytest.mark.parametrize(
    ("topic", "refused"),
    [
        ("x" * MAX_BYTES, False),
        ("x" * (MAX_BYTES + 1), True),
        ("Ü" * (MAX_BYTES // 2), False),
        ("Ü" * (MAX_BYTES // 2) + "x", True),
        ("/".join("x" * MAX_LEVELS), False),
        ("/".join("x" * (MAX_LEVELS + 1)), True),
    ],
)
def test_how_long_they_may_be(topic: str, refused: bool) -> None:
    assert too_long(topic) is refused


@pytest.mark.parametrize(
    "topic",
    ["cmnd/plug/POWER", "zigbee2mqtt/lamp/set", "plug", "subscribe", "/x", "a/subscribe/b", "json", "events"],
)
def test_commands_to_the_firmware_s_own_topics(topic: str) -> None:
    assert of_command(topic) == kept(topic)


@pytest.mark.parametrize(
    "topic",
    [
        "json/plug/cmnd/POWER",
        "binary/d",
        "state/d",
        "d1/subscribe",
        "d1/errors",
        "events/1",
        "$x/y",
        "x" * 1025,
    ],
)
def test_commands_below_the_token(topic: str) -> None:
    assert of_command(topic) == topic


def test_nobody_names_the_form_in_which_they_are_kept() -> None:
    assert valid_topic("a/\2/b")
    assert not valid_topic(kept("a"))
