"""Believable data. Pure: the same seed and number give the same device, which sends the same readings.

Every value of a device is unlike its others (a counter, or a uid that never comes again), so that what is
found stored can be told apart.
"""

import json
import math
import random
import struct
from collections.abc import Callable
from typing import NamedTuple

from ingest.message import Kind

DAY = 86_400.0  # seconds
METRES_A_DEGREE = 111_320.0
UIDS = 2**48


class Reading(NamedTuple):
    kind: Kind
    payload: bytes
    tag: str | None = None


class Device:
    """`take(now)` is its next reading; `now` in seconds since 1970, for what follows the time of day.

    `online` is how many readings a flapping device sends before it disconnects; None: it stays.
    """

    def __init__(self, device_id: str, take: Callable[[float], Reading], online: int | None = None) -> None:
        self.device_id = device_id
        self.take = take
        self.online = online


Sensor = Callable[[random.Random], Callable[[float], Reading]]


def make(device_id: str, number: int, seed: int, over_http: bool) -> Device:
    """The kinds of device take turns; over HTTP only those that the connector has a path for."""
    chance = random.Random(f"{seed}-{number}")  # noqa: S311 - to be repeatable is the point
    sensors = HTTP_SENSORS if over_http else MQTT_SENSORS
    sensor = sensors[number % len(sensors)]
    online = chance.randrange(3, 12) if sensor is flapping else None
    return Device(device_id, sensor(chance), online)


def climate(chance: random.Random) -> Callable[[float], Reading]:
    """Temperature and humidity of a room."""
    weather, count = _weather(chance), 0

    def take(now: float) -> Reading:
        nonlocal count
        count += 1
        temperature, humidity = weather(now)
        return _json({"temp": temperature, "humidity": humidity, "count": count})

    return take


def flapping(chance: random.Random) -> Callable[[float], Reading]:
    """The same with a bad radio link: it comes and goes."""
    return climate(chance)


def oldest(chance: random.Random) -> Callable[[float], Reading]:
    """A device of the first generation: url-encoded, values without names."""
    weather, count = _weather(chance), 0

    def take(now: float) -> Reading:
        nonlocal count
        count += 1
        temperature, humidity = weather(now)
        return Reading(Kind.FORM, f"v={temperature}&v2={humidity}&v3={count}".encode())

    return take


def rfid(chance: random.Random) -> Callable[[float], Reading]:
    """A gate that reads badges: uids as text, tagged with the direction."""
    place, step = chance.randrange(UIDS), chance.randrange(UIDS) | 1  # odd: all uids before one comes again

    def take(now: float) -> Reading:
        nonlocal place
        place = (place + step) % UIDS
        return Reading(Kind.JSON, json.dumps(f"04{place:012X}").encode(), chance.choice(("in", "out")))

    return take


def meter(chance: random.Random) -> Callable[[float], Reading]:
    """A power meter's frame: counter, watt hours, tenths of a volt, flags."""
    count, energy = 0, chance.randrange(10**6)

    def take(now: float) -> Reading:
        nonlocal count, energy
        count += 1
        energy += max(0, round(chance.gauss(30, 10)))
        frame = struct.pack(">IIHB", count, energy % 2**32, round(chance.gauss(2300, 15)), count % 3 == 0)
        return Reading(Kind.BINARY, frame)

    return take


def vehicle(chance: random.Random) -> Callable[[float], Reading]:
    """Drives about, and turns a little between two positions."""
    latitude, longitude = 47.37 + chance.gauss(0, 0.05), 8.54 + chance.gauss(0, 0.05)
    course, speed, count = chance.uniform(0, 360), chance.uniform(3, 15), 0

    def take(now: float) -> Reading:
        nonlocal latitude, longitude, course, speed, count
        count += 1
        course = (course + chance.gauss(0, 12)) % 360
        speed = min(max(speed + chance.gauss(0, 1), 0), 30)
        latitude += speed * math.cos(math.radians(course)) / METRES_A_DEGREE
        longitude += (
            speed * math.sin(math.radians(course)) / (METRES_A_DEGREE * math.cos(math.radians(latitude)))
        )
        return _json(
            {
                "position": {"lat": round(latitude, 6), "lon": round(longitude, 6)},
                "speed": round(speed, 1),
                "course": round(course),
                "count": count,
            }
        )

    return take


def station(chance: random.Random) -> Callable[[float], Reading]:
    """Publishes its state, of which the platform keeps the latest."""
    count, battery = 0, chance.uniform(3.6, 4.1)

    def take(now: float) -> Reading:
        nonlocal count, battery
        count += 1
        battery = max(battery - 0.0005, 3.2)
        signal = round(chance.gauss(-70, 5))
        return Reading(Kind.STATE, f"battery={battery:.2f}&rssi={signal}&count={count}\n".encode())

    return take


HTTP_SENSORS: tuple[Sensor, ...] = (climate, rfid, vehicle, oldest)
MQTT_SENSORS: tuple[Sensor, ...] = (climate, rfid, meter, vehicle, flapping, oldest, station)


def _weather(chance: random.Random) -> Callable[[float], tuple[float, float]]:
    """A daily curve, warmest at 15 o'clock UTC, with noise that drifts; humidity goes the other way."""
    mean, swing, drift = chance.uniform(17, 24), chance.uniform(2, 6), 0.0

    def measure(now: float) -> tuple[float, float]:
        nonlocal drift
        drift = 0.9 * drift + chance.gauss(0, 0.1)
        warmth = swing * math.cos(2 * math.pi * (now % DAY / DAY - 15 / 24)) + drift
        humidity = min(max(55 - 3 * warmth + chance.gauss(0, 0.5), 5), 100)
        return round(mean + warmth, 2), round(humidity, 1)

    return measure


def _json(value: dict[str, object]) -> Reading:
    return Reading(Kind.JSON, json.dumps(value).encode())
