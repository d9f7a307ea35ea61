"""Which events make sense for a key: a table of keys, units and numbers as devices have them."""

import pytest

from thingscale.events.evaluate import Rule
from thingscale.events.suggestions import MOST, Stream, suggest


@pytest.mark.parametrize(
    ("source", "label", "unit", "low", "high", "expected"),
    [
        ("battery", "", "%", 42, 97, "Battery below 20 %"),
        ("battery", "", "", 42, 97, "Battery below 20"),
        ("battery", "", "%", 12, 97, "Battery below 10 %"),
        ("batteryLevel", "", "%", 90, 97, "BatteryLevel below 20 %"),
        ("data:bat_v", "", "V", 3.9, 4.1, "Bat_v below 3.3 V"),
        ("bat", "Cell", "mV", 3900, 4100, "Cell below 3300 mV"),
        ("battery", "", "V", 12.4, 13.1, "Battery below 11.5 V"),
        ("temperature", "", "°C", 18, 24, "Temperature above 30 °C"),
        ("t1", "Temperature", "°C", 2, 6, "Temperature above 8 °C"),
        ("temp", "", "°C", -22, -18, "Temp above -15 °C"),
        ("temp", "", "", 18, 24, "Temp above 30"),
        ("temp", "", "°F", 60, 75, "Temp above 86 °F"),
        ("cpu_temp", "", "°C", 45, 63, "Cpu_temp above 70 °C"),
        ("humidity", "", "%", 30, 55, "Humidity above 60 %"),
        ("soilMoisture", "", "%", 35, 60, "SoilMoisture below 30 %"),
        ("co2", "", "ppm", 420, 1200, "Co2 above 1400 ppm"),
        ("pm2.5", "", "µg/m³", 3, 12, "Pm2.5 above 25 µg/m³"),
        ("disk_used", "", "%", 40, 62, "Disk_used above 80 %"),
        ("disk_free", "", "%", 40, 62, "Disk_free below 20 %"),
        ("cpu", "", "%", 3, 55, "Cpu above 80 % for 5 min"),
        ("rssi", "", "dBm", -71, -55, "Rssi below -80 dBm"),
        ("voltage", "Mains", "V", 226, 238, "Mains below 210 V"),
        ("leak", "", "", 0, 0, "Leak is on"),
    ],
)
def test_a_usual_threshold_that_was_not_passed_yet(
    source: str, label: str, unit: str, low: float, high: float, expected: str
) -> None:
    (suggestion,) = suggest([Stream(source, label, unit, low, high)])
    assert suggestion.title == suggestion.fields["description"] == expected
    fields = suggestion.fields
    rule = Rule.of(
        0, fields["kind"], source, fields["operator"], fields["threshold"], clear=fields.get("clear", "")
    )
    for number in (low, high):
        seen = rule.sees(number if source == "value" else _nested(source, number))
        assert seen is None or not seen.matched


def _nested(source: str, number: float) -> object:
    value: object = number
    for key in reversed(source.split(":")):
        value = {key: value}
    return value


@pytest.mark.parametrize(
    ("source", "unit", "low", "high"),
    [
        ("battery", "%", 3, 97),  # it has been lower than all of them
        ("battery", "mA", 42, 97),
        ("battery", "", -4, 97),
        ("temp", "K", 290, 300),
        ("temp", "", 1_700_000_000, 1_800_000_000),
        ("voltage", "V", 6, 7),
        ("contemplation", "°C", 20, 21),
        ("count", "", 0, 5),
        ("leak", "", 0, 40),
    ],
)
def test_nothing_rather_than_nonsense(source: str, unit: str, low: float, high: float) -> None:
    assert suggest([Stream(source, "", unit, low, high)]) == []


def test_a_switch_is_compared_with_true() -> None:
    (suggestion,) = suggest([Stream("leak", "Leak in the cellar", "", 0, 0, is_switch=True)])
    assert (suggestion.fields["operator"], suggestion.fields["threshold"]) == ("=", "true")
    assert suggestion.fields["severity"] == "critical"


def test_the_most_urgent_of_many() -> None:
    keys = ["rssi", "cpu", "humidity", "temp", "battery"]
    streams = [
        Stream(key, "", "", -60 if key == "rssi" else 30, -50 if key == "rssi" else 40) for key in keys
    ]
    found = suggest(streams)
    assert len(found) == MOST
    assert [each.fields["source"] for each in found] == ["battery", "temp", "humidity"]
