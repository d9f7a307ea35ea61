"""InfluxDB's line protocol: each rule, and what the programs that speak it really send."""

import pytest

from thingscale.intakes.formats.influx import decode
from thingscale.intakes.formats.readings import BadBody, Reading

NOW = 1_764_400_000_000_000


@pytest.mark.parametrize(
    ("line", "tag", "value", "at"),
    [
        (b"cpu,host=h usage_idle=91.2 1764400000000000000", "cpu", b'{"usage_idle":91.2}', NOW),
        (
            b"cpu,host=h a=1i,b=2u,c=3,d=t,e=false,f=-0.5",
            "cpu",
            b'{"a":1,"b":2,"c":3,"d":true,"e":false,"f":-0.5}',
            None,
        ),
        (b'cpu,host=h s="a \\"b\\" c"', "cpu", b'{"s":"a \\"b\\" c"}', None),
        (b"cpu,cpu=cpu0,host=h a=1", "cpu/cpu=cpu0", b'{"a":1}', None),
        (b"disk,path=/,host=h,device=sda1 a=1", "disk/device=sda1/path=%2F", b'{"a":1}', None),
    ],
)
def test_a_line(line: bytes, tag: str, value: bytes, at: int | None) -> None:
    assert decode(line, NOW) == [Reading("h", tag, value, at)]


def test_a_bad_line_is_named() -> None:
    with pytest.raises(BadBody, match=r"^line 3: the field a is x, which is no number, true or false: "):
        decode(b"cpu,host=h a=1\n# comment\ncpu,host=h a=x\ncpu,host=h b=", NOW)
