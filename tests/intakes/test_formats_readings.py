import pytest

from thingscale.intakes.formats.readings import Reading, by_device, device_id_of, json_value, tag_of
from thingscale.lib.json_rules import BadValue
from thingscale.lib.names import bad_device_id, bad_tag

NAMES = [
    "sensor-1",
    "10.0.0.1:9100",
    "0",
    "a/b",
    "a+b",
    "a%2Fb",
    "#",
    " x",
    "x ",
    " ",
    "\u200bx",
    "a\nb",
    "\ud800",
    "/",
    "/var",
    "var/",
    "a//b",
    "a///b",
    "x" * 200,
    "x" * 201,
    " " + "y" * 200,
    "é" * 64,
    "50%",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_becomes_one_that_a_device_and_a_tag_can_have(name: str) -> None:
    assert bad_device_id(device_id_of(name)) is None
    tag = tag_of(name)
    assert tag is not None
    assert not bad_tag(tag)


def test_no_two_names_become_one() -> None:
    assert len({device_id_of(name) for name in NAMES}) == len(NAMES)
    assert len({tag_of(name) for name in NAMES}) == len(NAMES)


def test_names_that_can_be_had_stay_as_they_are() -> None:
    for name in ("sensor-1", "10.0.0.1:9100", "Küche 2"):
        assert device_id_of(name) == name
    for name in ("cpu/cpu=cpu0", "disk/path=/var/lib"):
        assert tag_of(name) == name
    assert tag_of("disk/path=/") == "disk/path=%2F"
    assert device_id_of("") == ""
    assert tag_of("") is None


@pytest.mark.parametrize("value", [float("1e308") * 10, "\0", {"a": "x" * 70_000}, "\ud800"])
def test_a_value_that_can_not_be_kept_is_refused(value: object) -> None:
    if value == float("inf"):
        assert json_value(value) == b"null"  # for the formats to leave out
        return
    with pytest.raises(BadValue):
        json_value(value)


def test_readings_are_put_together_by_device_and_by_whether_they_have_times() -> None:
    readings = [
        Reading("a", "t", b"1", 5),
        Reading("b", None, b"2", None),
        Reading("a", None, b"3", 4),
        Reading("a", None, b"4", None),
    ]
    assert {key: list(map(list, points)) for key, points in by_device(readings, 9).items()} == {
        ("a", True): [["t", None], [b"1", b"3"], [5, 4]],
        ("b", False): [[None], [b"2"], [9]],
        ("a", False): [[None], [b"4"], [9]],
    }
