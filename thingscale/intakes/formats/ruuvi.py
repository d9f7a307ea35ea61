"""What a RuuviTag says in a Bluetooth advertisement: data format 5 (RAWv2)."""

import struct
from typing import Any

_MANUFACTURER = bytes.fromhex("9904")  # Ruuvi Innovations, with the low byte first
_FIELDS = struct.Struct(">hHHhhhHBH")  # behind the byte that says which format it is
_ABSENT = -0x8000, 0xFFFF, 0xFFFF, -0x8000, -0x8000, -0x8000
_MAX_DATA = 1024  # hexadecimal digits; an advertisement has 62, an extended one up to 510


def advertised(data: str) -> dict[str, Any] | None:
    """`data` is hexadecimal, from the first field of the advertisement on. None if it is not a RuuviTag's."""
    if len(data) > _MAX_DATA:
        return None
    try:
        content = _manufacturer_data(bytes.fromhex(data))
    except ValueError:
        return None
    if len(content) < 18 or content[0] != 5:
        return None
    temperature, humidity, pressure, x, y, z, power, movements, number = _FIELDS.unpack_from(content, 1)
    measured = temperature, humidity, pressure, x, y, z
    temperature, humidity, pressure, x, y, z = (
        None if value == absent else value for value, absent in zip(measured, _ABSENT, strict=True)
    )
    found = {
        "temperature": None if temperature is None else round(temperature * 0.005, 3),
        "humidity": None if humidity is None else round(humidity * 0.0025, 4),
        "pressure": None if pressure is None else pressure + 50_000,
        "accelX": None if x is None else round(x / 1000, 3),
        "accelY": None if y is None else round(y / 1000, 3),
        "accelZ": None if z is None else round(z / 1000, 3),
        "voltage": None if power >> 5 == 2047 else round(1.6 + (power >> 5) / 1000, 3),
        "txPower": None if power & 31 == 31 else -40 + 2 * (power & 31),
        "movementCounter": None if movements == 255 else movements,
        "measurementSequenceNumber": None if number == 65535 else number,
    }
    return {name: value for name, value in found.items() if value is not None}


def _manufacturer_data(advertisement: bytes) -> bytes:
    at = 0
    while at + 1 < len(advertisement):
        length = advertisement[at]
        field = advertisement[at + 1 : at + 1 + length]
        if field[:1] == b"\xff" and field[1:3] == _MANUFACTURER:
            return field[3:]
        at += 1 + length
    return b""
