"""Payloads that nobody has thought of: good ones with something wrong in them, and bytes by chance.

THINGSCALE_FUZZ_INPUTS=1000000 tries that many, other ones each time.
"""

import os
import random
from collections.abc import Callable, Iterator, Sequence

from thingscale.intakes.formats.readings import MAX_READINGS, BadBody, Reading
from thingscale.lib.names import bad_device_id, bad_tag

FEW = 20_000
TIMES = int(os.environ.get("THINGSCALE_FUZZ_INPUTS", FEW))  # of each test
MOST_BYTES = 2000


def payloads(seeds: Sequence[bytes]) -> Iterator[bytes]:
    chance = random.Random(18 if TIMES <= FEW else None)
    for number in range(TIMES):
        if number % 10 == 0:
            yield chance.randbytes(chance.randrange(100))
            continue
        payload = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            at = chance.randrange(len(payload) + 1)
            end = min(len(payload), at + chance.choice((1, 1, 1, 2, 5, 20)))
            match chance.randrange(6):
                case 0:
                    payload[at:end] = chance.randbytes(end - at)
                case 1:
                    del payload[at:end]
                case 2:
                    payload[at:at] = chance.randbytes(end - at)
                case 3:  # what lengths, numbers and keys break at
                    payload[at:end] = bytes([chance.choice((0, 1, 10, 18, 127, 128, 255, 34, 91, 123))])
                case 4:
                    other = chance.choice(seeds)
                    start = chance.randrange(len(other) + 1)
                    payload[at:end] = other[start : start + chance.randrange(60)]
                case 5:
                    payload[at:at] = payload[at:end] * chance.choice((2, 10, 50))
            del payload[MOST_BYTES:]
        yield bytes(payload)


def check(decode: Callable[[bytes], Sequence[Reading]], payload: bytes) -> bool:
    """Whether it gave readings. Fails if they can't be stored, and if anything but BadBody is raised."""
    readings: Sequence[Reading] = ()
    detail = "."
    try:
        readings = decode(payload)
    except BadBody as error:
        detail = error.detail
    assert detail.endswith(".")
    assert len(detail) < 400
    assert len(readings) <= MAX_READINGS
    for device_id, tag, value, at in readings:
        assert bad_device_id(device_id) is None
        assert tag is None or not bad_tag(tag)
        assert value
        assert at is None or at > 0
    return bool(readings)
