"""Bodies that are nearly line protocol, by chance: each is read or refused, and both ways of reading agree.

THINGSCALE_FUZZ_BODIES=1000000 tries that many, in place of 20,000.
"""

import os
import random
from unittest import mock

import orjson
import pytest

from thingscale.intakes.formats import influx
from thingscale.intakes.formats.readings import BadBody, Reading
from thingscale.lib import json_rules
from thingscale.lib.names import bad_device_id, bad_tag

pytestmark = pytest.mark.slow

BODIES = int(os.environ.get("THINGSCALE_FUZZ_BODIES", "20000"))
NOW = 1_764_400_000_000_000
LINES = [
    b"cpu,cpu=cpu0,host=web-1 usage_idle=91.2,usage_system=1.5,usage_user=3i 1764400000000000000",
    b"disk,device=sda1,host=h,path=/ free=1i,used=2u,ok=true 1764400000000000000",
    b'system,host=h uptime_format="2 days, 3:04",load=0.5',
    b'\xc2\xb0C,domain=sensor,entity_id=living\\ room value=21.5,name="the \\"room\\"" 1764400000000000000',
    b"t,host=h v=T,w=False,x=-.5,y=5.,z=1e3",
    b'# a comment "x',
    b'a,host=h a="x\ny",b=2',
    b"",
]
PIECES = [
    *(
        b" ",
        b",",
        b"=",
        b'"',
        b"\\",
        b"\n",
        b"i",
        b"u",
        b"1",
        b"0",
        b"-",
        b".",
        b"e",
        b"+",
        b"t",
        b"T",
        b"true",
    ),
    *(b"\t", b"\r", b"\0", b"\1", b"\xff", b"\xc3\xa9", b"{", b"}", b"[", b"]", b":", b"null", b"nan", b"#"),
    *(
        b"9" * 19,
        b"1e400",
        b"1e-400",
        b"0" * 200,
        b'\\"',
        b"\\\\",
        b"\\ ",
        b"\\,",
        b"\\=",
        b'""',
        b'="',
        b"a=1",
    ),
    *(b",b=2 ", b"host=h", b"/", b"//", b" 1764400000000000000", b"1764400000", b"\xef\xbb\xbf", b"\\u0000"),
]


def body_of(choice: random.Random) -> bytes:
    body = bytearray(b"\n".join(choice.choices(LINES, k=choice.randint(1, 5))))
    for _ in range(choice.choice((0, 1, 1, 1, 2, 3, 8))):
        place = choice.randint(0, len(body))
        match choice.randint(0, 3):
            case 0:
                body[place:place] = choice.choice(PIECES)
            case 1:
                del body[place : place + choice.randint(1, 4)]
            case 2:
                body[place : place + 1] = choice.choice(PIECES)
            case _:
                body[place:place] = body[choice.randint(0, len(body)) :][: choice.randint(1, 12)]
    return bytes(body)


def read(body: bytes, fallback_device: str) -> list[Reading] | str:
    influx._known.clear()
    try:
        return influx.decode(body, NOW, fallback_device=fallback_device)
    except BadBody as bad:
        return f"{bad.reason} {bad.detail}"


def test_all_bodies_are_read_or_refused() -> None:
    taken = 0
    for number in range(BODIES):
        choice = random.Random(number)
        body, fallback = body_of(choice), choice.choice(("", "x"))
        found = read(body, fallback)
        with mock.patch.object(influx, "_read_together", return_value=None):
            assert read(body, fallback) == found, body
        if isinstance(found, str):
            continue
        taken += 1
        for device_id, tag, text, _ in found:
            assert bad_device_id(device_id) is None, body
            assert tag is not None, body
            assert not bad_tag(tag), body
            fields = orjson.loads(text)
            assert isinstance(fields, dict), body
            assert fields, body
            json_rules.check(text, fields)
            assert len(text) <= json_rules.MAX_BYTES, body
    assert BODIES / 10 < taken < BODIES / 2  # most are nearly right


@pytest.mark.parametrize(
    "piece",
    [
        b'"',
        b"\\",
        b'a,host=h a="',
        b'a,host=h a="\n',
        b"a,host=h a=1,",
        b"a,",
        b"a\\ ",
        b"=",
        b"\n",
        b'"\n',
        b"a b=\\",
    ],
)
def test_large_bodies_take_time_by_their_size_only(piece: bytes) -> None:
    """pytest-timeout ends what takes a minute."""
    body = (piece * (4 * 1024 * 1024 // len(piece)))[: 4 * 1024 * 1024]
    read(body, "x")
