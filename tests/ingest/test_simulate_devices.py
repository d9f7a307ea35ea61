"""The data of simulated devices: repeatable, believable, and each value once."""

import json
import math
import re
from itertools import pairwise
from urllib.parse import parse_qs

import pytest

from ingest.decode import decode
from ingest.message import Kind
from ingest.simulate import devices
from ingest.simulate.devices import HTTP_SENSORS, MQTT_SENSORS, Reading
from ingest.simulate.http import HttpSender
from thingscale.lib.json_rules import number_or_text

NOON = 1_800_000_000 // 86_400 * 86_400 + 43_200.0
CLIMATE, RFID, METER, VEHICLE, FLAPPING, OLDEST, STATION = range(len(MQTT_SENSORS))


def readings(number: int, count: int, seed: int = 1, every: float = 1.0) -> list[Reading]:
    device = devices.make("d", number, seed, over_http=False)
    return [device.take(NOON + place * every) for place in range(count)]


@pytest.mark.parametrize("number", range(len(MQTT_SENSORS)))
def test_the_same_seed_gives_the_same_readings(number: int) -> None:
    assert readings(number, 20) == readings(number, 20)
    assert readings(number, 20) != readings(number, 20, seed=2)
    assert readings(number, 20) != readings(number + len(MQTT_SENSORS), 20)


@pytest.mark.parametrize("number", range(len(MQTT_SENSORS)))
def test_every_reading_can_be_decoded_and_comes_once(number: int) -> None:
    values = [decode(kind, payload) for kind, payload, _ in readings(number, 3000)]
    assert len(set(values)) == 3000


def test_http_devices_send_what_the_connector_has_a_path_for() -> None:
    for number in range(len(HTTP_SENSORS)):
        assert devices.make("d", number, 1, over_http=True).take(NOON).kind in {Kind.JSON, Kind.FORM}


def test_a_day_is_warm_in_the_afternoon_and_dry_where_it_is_warm() -> None:
    day = [json.loads(reading.payload) for reading in readings(CLIMATE, 24, every=3600)]
    warmest = max(range(24), key=lambda hour: day[hour]["temp"])
    assert 1 <= warmest <= 5  # hours after noon
    coldest = min(day, key=lambda value: float(value["temp"]))
    assert coldest["humidity"] > day[warmest]["humidity"] + 5
    assert all(5 <= value["humidity"] <= 100 and -20 < value["temp"] < 50 for value in day)


def test_badges_are_text_that_stays_text() -> None:
    for _, payload, tag in readings(RFID, 200):
        uid = json.loads(payload)
        assert len(uid) == 14
        assert number_or_text(uid) == uid
        assert tag in {"in", "out"}


def test_a_vehicle_moves_and_never_jumps() -> None:
    places = [json.loads(reading.payload)["position"] for reading in readings(VEHICLE, 300)]
    steps = [
        math.hypot((b["lat"] - a["lat"]) * 111_320, (b["lon"] - a["lon"]) * 111_320 * math.cos(0.83))
        for a, b in pairwise(places)
    ]
    assert max(steps) < 31
    assert sum(steps) > 300


def test_a_meter_sends_frames_of_bytes() -> None:
    frames = [payload for _, payload, _ in readings(METER, 50)]
    assert {len(frame) for frame in frames} == {11}
    assert any(frame[-1] for frame in frames)


def test_old_devices_and_states_are_url_encoded() -> None:
    kind, payload, _ = readings(OLDEST, 1)[0]
    assert kind is Kind.FORM
    assert set(parse_qs(payload.decode())) == {"v", "v2", "v3"}
    kind, payload, _ = readings(STATION, 1)[0]
    assert kind is Kind.STATE
    assert json.loads(decode(kind, payload))["count"] == 1


def test_only_the_flapping_device_goes_away_by_itself() -> None:
    online = [devices.make("d", number, 1, over_http=False).online for number in range(len(MQTT_SENSORS))]
    assert [place for place, count in enumerate(online) if count] == [FLAPPING]


def test_d1_another_run_of_the_same_device_has_other_keys() -> None:
    """It counts its readings from 0 again."""
    requests: list[bytes] = []
    for _ in range(2):
        sender = HttpSender(devices.make("d", 1, 1, over_http=True), ("127.0.0.1", 1), "token")
        sender.offer()
        sender.offer()
        requests += sender._queue
    keys = re.findall(rb"Idempotency-Key: (\S+)", b"".join(requests))
    assert len(keys) == len(set(keys)) == 4
