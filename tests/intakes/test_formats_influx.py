"""InfluxDB's line protocol: each rule, and what the programs that speak it really send."""

import re
from pathlib import Path

import orjson
import pytest

from thingscale.intakes.formats import influx
from thingscale.intakes.formats.influx import MAX_DIGITS, MAX_SERIES, decode
from thingscale.intakes.formats.readings import MAX_READINGS, BadBody, Reading
from thingscale.lib.clock import MAX_AHEAD, OLDEST_DATAPOINT
from thingscale.lib.reasons import Reason

NOW = 1_764_400_000_000_000
PAYLOADS = Path(__file__).parent / "payloads"


def value(line: bytes) -> bytes:
    (reading,) = decode(line, NOW)
    return reading.value


def names(series: bytes) -> tuple[str, str | None]:
    (reading,) = decode(series + b" v=1", NOW)
    return reading.device_id, reading.tag


# Values


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"a=91.2", b'{"a":91.2}'),
        (b"a=1,b=2i,c=3u", b'{"a":1,"b":2,"c":3}'),
        (b"a=-1,b=-2i,c=-0.5", b'{"a":-1,"b":-2,"c":-0.5}'),
        (b"a=1.10", b'{"a":1.10}'),  # as it is written
        (b"a=1e3,b=1E+3,c=1.5e-3", b'{"a":1e3,"b":1E+3,"c":1.5e-3}'),
        (b"a=5.", b'{"a":5.0}'),
        (b"a=.5", b'{"a":0.5}'),
        (b"a=-.5", b'{"a":-0.5}'),
        (b"a=007", b'{"a":7.0}'),
        (b"a=007i", b'{"a":7}'),
        (b"a=9223372036854775807i", b'{"a":9223372036854775807}'),
        (b"a=-9223372036854775808i", b'{"a":-9223372036854775808}'),
        (b"a=18446744073709551615u", b'{"a":18446744073709551615}'),
        (b"a=123456789012345678901234567890", b'{"a":123456789012345678901234567890}'),
        (b"a=t,b=T,c=true,d=True,e=TRUE", b'{"a":true,"b":true,"c":true,"d":true,"e":true}'),
        (b"a=f,b=F,c=false,d=False,e=FALSE", b'{"a":false,"b":false,"c":false,"d":false,"e":false}'),
        (b"a=True,b=1.5,c=F", b'{"a":true,"b":1.5,"c":false}'),
        (b'a="x"', b'{"a":"x"}'),
        (b'a=""', b'{"a":""}'),
        (b'a="x y, z=1",b=2', b'{"a":"x y, z=1","b":2}'),
        (b'a="say \\"hi\\""', b'{"a":"say \\"hi\\""}'),
        (b'a="C:\\\\dir\\x"', b'{"a":"C:\\\\dir\\\\x"}'),  # \\ is one, and \x is both
        (b'a="x\ny",b=1', b'{"a":"x\\ny","b":1}'),
        (b'a="\xc3\xa9"', '{"a":"é"}'.encode()),
        (b"a\\ b=1", b'{"a b":1}'),
        (b"a\\,b\\=c=1", b'{"a,b=c":1}'),
        (b"a\\b=1", b'{"a\\\\b":1}'),
        (b'"a"=1', b'{"\\"a\\"":1}'),  # quotes are part of a name
        ("é=1".encode(), '{"é":1}'.encode()),
        (b"a=1,b=2,a=3", b'{"a":3,"b":2}'),
        (b"time=5", b'{"time":5}'),
    ],
)
def test_values(fields: bytes, expected: bytes) -> None:
    assert value(b"m,host=h " + fields) == expected
    # Beside others, and one by one.
    beside = decode(b"m,host=h %s 1764400000000000000\nn,host=h x=1,y=2 1764400000000000000" % fields, NOW)
    assert [reading.value for reading in beside] == [expected, b'{"x":1,"y":2}']


# Names


@pytest.mark.parametrize(
    ("series", "device_id", "tag"),
    [
        (b"cpu,host=web-1", "web-1", "cpu"),
        (b"cpu,cpu=cpu0,host=web-1", "web-1", "cpu/cpu=cpu0"),
        (b"cpu,host=web-1,cpu=cpu0,a=1", "web-1", "cpu/a=1/cpu=cpu0"),  # in the order of their names
        (b"disk,device=sda1,host=h,path=/", "h", "disk/device=sda1/path=%2F"),
        (b"disk,host=h,path=/var/lib", "h", "disk/path=/var/lib"),
        (b"t,device=d,entity_id=e", "d", "t/entity_id=e"),
        (b"t,entity_id=kitchen", "kitchen", "t"),
        (b"m\\ 1\\,2,host=a\\ b\\,c\\=d", "a b,c=d", "m 1,2"),
        (b"m=1,host=h", "h", "m=1"),
        (b'm"1",host="h"', '"h"', 'm"1"'),  # quotes are part of a name
        (b"m,host=C:\\dir,k\\=1=v", "C:\\dir", "m/k=1=v"),
        (b"m,host=a/b+c#", "a%2Fb%2Bc%23", "m"),
        (b"m+n,host=0", "%30", "m%2Bn"),
        ("°C,host=Küche".encode(), "Küche", "°C"),
        (b" \t cpu,host=h", "h", "cpu"),
    ],
)
def test_names(series: bytes, device_id: str, tag: str) -> None:
    assert names(series) == (device_id, tag)
    assert names(series) == (device_id, tag)  # as it is remembered


def test_long_names_are_cut_and_differ() -> None:
    many = {names(b"m,host=h,id=" + b"x" * 200 + b"%d" % number) for number in range(50)}
    assert len(many) == 50
    assert all(tag and len(tag) <= 128 for _, tag in many)


def test_a_line_that_names_no_device() -> None:
    assert decode(b"t v=1", NOW, fallback_device="a/b") == [Reading("a%2Fb", "t", b'{"v":1}', None)]
    assert decode(b"t,host=h v=1", NOW, fallback_device="x") == [Reading("h", "t", b'{"v":1}', None)]
    with pytest.raises(
        BadBody,
        match=r"line 2: .* give it the tag host or device or entity_id, or the device's id in the URL",
    ):
        decode(b"t,host=h v=1\nt v=1", NOW)


def test_which_tag_names_the_device() -> None:
    line = b"t,host=h,room=kitchen v=1"
    assert decode(line, NOW, device_tags=["room"])[0][:2] == ("kitchen", "t/host=h")
    assert decode(line, NOW)[0][:2] == ("h", "t/room=kitchen")  # what is remembered is of other tags


def test_no_more_series_are_remembered_than_there_is_room_for() -> None:
    for first in range(0, MAX_SERIES + 5000, 5000):
        decode(b"\n".join(b"m,host=h%d v=1" % number for number in range(first, first + 5000)), NOW)
    assert len(influx._known) <= MAX_SERIES
    decode(b"m,host=" + b"y" * 10_000 + b" v=1", NOW)
    assert max(len(raw) for raw, _ in influx._known) < 1000


# Times


@pytest.mark.parametrize(
    ("precision", "time"),
    [
        ("ns", NOW * 1000 + 999),
        ("n", NOW * 1000),
        ("us", NOW),
        ("u", NOW),
        ("µs", NOW),
        ("ms", NOW // 1000),
        ("s", NOW // 1_000_000),
    ],
)
def test_precisions(precision: str, time: int) -> None:
    (reading,) = decode(b"m,host=h v=1 %d" % time, NOW, precision)
    assert reading.at == NOW


def test_minutes_and_hours() -> None:
    minute, hour = 60_000_000, 3_600_000_000
    assert decode(b"m,host=h v=1 %d" % (NOW // minute), NOW, "m")[0].at == NOW // minute * minute
    assert decode(b"m,host=h v=1 %d" % (NOW // hour), NOW, "h")[0].at == NOW // hour * hour


def test_what_a_time_can_be() -> None:
    ends = (OLDEST_DATAPOINT, NOW + MAX_AHEAD)
    assert [decode(b"m,host=h v=1 %d" % at, NOW, "us")[0].at for at in ends] == list(ends)
    for at in (OLDEST_DATAPOINT - 1, NOW + MAX_AHEAD + 1, -5, 10**25):
        with pytest.raises(BadBody, match="line 1: its time"):
            decode(b"m,host=h v=1 %d" % at, NOW, "us")
    assert decode(b"m,host=h v=1", NOW)[0].at is None
    assert [each.at for each in decode(b"m,host=h v=1 %d\nm,host=h v=2" % NOW, NOW, "us")] == [NOW, None]


def test_a_wrong_precision_is_told() -> None:
    with pytest.raises(
        BadBody, match=re.escape("if it is 2025-11-29T07:06:40.000Z, write precision=s in the URL")
    ):
        decode(b"m,host=h v=1 1764400000", NOW)
    with pytest.raises(BadBody, match="write precision=ns"):
        decode(b"m,host=h v=1 1764400000000000000", NOW, "s")


# Lines


def test_blank_lines_comments_and_line_ends() -> None:
    body = b'\xef\xbb\xbf# a "comment"\r\n\r\na,host=h v=1\r\n  \n\t# b\n\n'
    body += b'b,host=h v=2 1764400000000000000\r\n c,host=h s="x" \n'
    assert [(each.tag, each.at) for each in decode(body, NOW)] == [("a", None), ("b", NOW), ("c", None)]
    for empty in (b"", b"\n", b"\r\n", b"# nothing", b" \n\t\n"):
        assert decode(empty, NOW) == []


def test_spaces_between_the_parts() -> None:
    assert decode(b"a,host=h   v=1   1764400000000000000  ", NOW) == [Reading("h", "a", b'{"v":1}', NOW)]


def test_strings_with_newlines_do_not_shift_the_numbers_of_lines() -> None:
    body = b'a,host=h s="1\n2 x=\n3",t="4\n5"\n# "\nb,host=h v='
    with pytest.raises(BadBody, match=r"^line 6: the field v has no value: leave it out\.$"):
        decode(body, NOW)
    assert decode(body + b"1", NOW)[0].value == b'{"s":"1\\n2 x=\\n3","t":"4\\n5"}'


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b"cpu", "it has no fields: a line is measurement,tag=value field=value time"),
        (b"cpu,host=h", "it has no fields: "),
        (b"cpu,host=h ", "a field is missing: write name=value"),
        (b",host=h v=1", "it has no measurement: "),
        (b"cpu,host= v=1", "host= is no tag: write name=value"),
        (b"cpu,=h v=1", "=h is no tag: "),
        (b"cpu,host v=1", "host is no tag: "),
        (b"cpu,host=a=b v=1", "host=a=b is no tag: "),
        (b"cpu,host=a,,b=c v=1", " is no tag: "),
        (b"cpu,host=a,host=b v=1", "the tag host comes twice"),
        (
            b"cpu,host=my server v=1",
            r"server is no field: write name=value, and \ before a space in a tag or a name",
        ),
        (b"cpu,host=h =1", "a field has no name"),
        (b"cpu,host=h a=1,=2", "a field has no name"),
        (b"cpu,host=h a=", "the field a has no value: leave it out"),
        (b"cpu,host=h a=,b=1", "the field a has no value: leave it out"),
        (b"cpu,host=h a=1,", "a field is missing"),
        (b"cpu,host=h a=1,b", "b is no field"),
        (
            b"cpu,host=h a=on",
            "the field a is on, which is no number, true or false: put text in double quotes",
        ),
        (b"cpu,host=h a=tRUE", "the field a is tRUE"),
        (b"cpu,host=h a=null", "the field a is null"),
        (b"cpu,host=h a={}", "the field a is {}"),
        (b"cpu,host=h a=[]", "the field a is []"),
        (b"cpu,host=h a=1\t", "the field a is 1?"),
        (b"cpu,host=h a=+5", "the field a is +5"),
        (b"cpu,host=h a=1.5.1", "the field a is 1.5.1"),
        (b"cpu,host=h a=1.5i", "the field a is 1.5i"),
        (b"cpu,host=h a=1e5i", "the field a is 1e5i"),
        (b"cpu,host=h a=-1u", "the field a is beyond 64 bit, from 0 on: send it without the u"),
        (b"cpu,host=h a=1iu", "the field a is 1iu"),
        (b"cpu,host=h a=truei", "the field a is truei"),
        (b"cpu,host=h a=Ti", "the field a is Ti"),
        (b"cpu,host=h a=i", "the field a is i"),
        (b"cpu,host=h a=-", "the field a is -"),
        (b"cpu,host=h a=.", "the field a is ."),
        (b"cpu,host=h a=0x1F", "the field a is 0x1F"),
        (
            b"cpu,host=h a=9223372036854775808i",
            "the field a is beyond 64 bit, with a sign: send it without the i",
        ),
        (
            b"cpu,host=h a=18446744073709551616u",
            "the field a is beyond 64 bit, from 0 on: send it without the u",
        ),
        (b"cpu,host=h a=NaN", "the field a is NaN, which can't be kept: leave it out"),
        (b"cpu,host=h a=-inf", "the field a is -inf, which can't be kept: leave it out"),
        (b"cpu,host=h a=+Inf", "the field a is +Inf, which can't be kept: leave it out"),
        (b"cpu,host=h a=1e400", "it has a number out of range"),
        (b'cpu,host=h a="x', "the string of a does not end: close its quotes"),
        (b'cpu,host=h a="x\\"', "the string of a does not end: close its quotes"),
        (b'cpu,host=h a="x"y', "y follows the string of a: write a comma, or a space and the time"),
        (b'cpu,host=h a="x"i', "i follows the string of a"),
        (b"cpu,host=h a=1 now", "its time is now: write an integer, or nothing for the time of arrival"),
        (b"cpu,host=h a=1 1764400000.5", "its time is 1764400000.5"),
        (b"cpu,host=h a=1 1 2", "its time is 1 2"),
        (b"cpu,host=h a=1 " + b"1" * (MAX_DIGITS + 1), "its time is 1111"),
        (b"cpu,host=\xff a=1", "it is not UTF-8"),
        (b"cpu,host=h \xff=1", "it is not UTF-8"),
        (b'cpu,host=h a="\xff"', "it is not UTF-8"),
        (b'cpu,host=h a="\0"', "it has a NUL character"),
        (b"cpu,host=h a\0=1", "it has a NUL character"),
        (b'{"temperature": 21.5}', "21.5} is no field"),
    ],
)
def test_a_bad_line_is_named(line: bytes, detail: str) -> None:
    """And nothing of the body is taken."""
    body = b"\n".join([b"ok,host=h v=1", b"# comment", line, b"bad"])
    with pytest.raises(BadBody) as caught:
        decode(body, NOW)
    assert caught.value.detail.startswith(f"line 3: {detail}"), caught.value.detail
    assert caught.value.detail.endswith(".")


def test_of_many_bad_lines_the_first_is_named() -> None:
    lines = [b"m,host=h a=%d" % number for number in range(2000)]
    lines[1700] = b"m,host=h a="
    lines[1750] = b'm,host=h a="'  # read first, since strings may go on behind it
    with pytest.raises(BadBody, match=r"^line 1701: "):
        decode(b"\n".join(lines), NOW)


def test_what_is_shown_of_a_bad_line_is_short_and_printable() -> None:
    with pytest.raises(BadBody) as caught:
        decode(b"cpu,host=h a=\x1b[31m" + b"x" * 10_000, NOW)
    assert len(caught.value.detail) < 200
    assert caught.value.detail.isprintable()


# Bounds


def test_too_many_lines_are_refused() -> None:
    lines = [b"m,host=h%d v=1" % number for number in range(MAX_READINGS)]
    assert len(decode(b"\n".join(lines), NOW)) == MAX_READINGS
    with pytest.raises(BadBody, match="20,000 lines") as caught:
        decode(b"\n".join([*lines, b"m,host=h v=1"]), NOW)
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_value_of_more_than_64_kib_is_refused() -> None:
    most = 64 * 1024 - len(b'{"a":""}')
    for quoted, escape in ((b"x" * most, b""), (b"\\\\" + b"x" * (most - 2), b"\\")):
        assert len(value(b'm,host=h a="%s"' % quoted)) == 64 * 1024
        with pytest.raises(BadBody, match="line 1: it has more than 64 KiB of fields") as caught:
            decode(b'm,host=h a="%s%s"' % (quoted, escape * 2 or b"x"), NOW)
        assert caught.value.reason is Reason.TOO_LARGE


# Lines of one series and time


def test_lines_of_one_series_and_time_become_one_reading() -> None:
    body = b"\n".join(
        [
            b"system,host=h load1=0.10,n_cpus=8i 1764400000000000000",
            b"cpu,host=h a=1 1764400000000000000",
            b"system,host=h uptime=5i 1764400000000000000",
            b'system,host=h uptime_format="5 s" 1764400000000000000',
            b"system,host=h uptime=15i 1764400010000000000",
        ]
    )
    assert [(each.tag, each.value) for each in decode(body, NOW)] == [
        ("system", b'{"load1":0.10,"n_cpus":8,"uptime":5,"uptime_format":"5 s"}'),
        ("cpu", b'{"a":1}'),
        ("system", b'{"uptime":15}'),
    ]


def test_of_a_field_that_comes_twice_the_last_value_stays() -> None:
    assert value(b"m,host=h a=1,b=1\nm,host=h a=2,c=3") == b'{"a":2,"b":1,"c":3}'
    assert value(b"m,b=1,host=h a=1\nm,host=h,b=1 a=2") == b'{"a":2}'  # the same series
    assert value(b"m,host=h a=1.10\nm,host=h a=1.10") == b'{"a":1.10}'


def test_times_that_differ_by_less_than_a_microsecond_are_two() -> None:
    body = b"m,host=h a=1 1764400000000000001\nm,host=h a=2 1764400000000000002"
    assert [(each.value, each.at) for each in decode(body, NOW)] == [(b'{"a":1}', NOW), (b'{"a":2}', NOW)]


def test_together_they_are_no_larger_than_one() -> None:
    lines = [b'm,host=h f%d="%s"' % (number, b"x" * 30_000) for number in range(3)]
    with pytest.raises(BadBody, match="Of the lines of m at one time: it has more than 64 KiB") as caught:
        decode(b"\n".join(lines), NOW)
    assert caught.value.reason is Reason.TOO_LARGE


# What programs send


def test_a_batch_of_telegraf() -> None:
    """Of a machine with 8 processors and 3 disks: 11 series, and the others."""
    readings = decode((PAYLOADS / "influx" / "telegraf.txt").read_bytes(), NOW)
    assert {reading.device_id for reading in readings} == {"leeloo"}
    tags = [reading.tag or "" for reading in readings]
    assert len(tags) == len(set(tags))
    assert [tag for tag in tags if tag.startswith("cpu/") and tag != "cpu/cpu=cpu-total"] == [
        f"cpu/cpu=cpu{number}" for number in range(8)
    ]
    assert [tag for tag in tags if tag.startswith("disk/")] == [
        "disk/device=sda1/fstype=ext4/mode=rw/path=%2F",
        "disk/device=sda2/fstype=ext4/mode=rw/path=/home",
        "disk/device=sdb1/fstype=xfs/mode=rw/path=/srv/my data",
    ]
    values = {reading.tag: orjson.loads(reading.value) for reading in readings}
    assert values["system"] == {
        "load1": 0.52,
        "load15": 0.59,
        "load5": 0.58,
        "n_cpus": 8,
        "n_users": 2,
        "uptime": 1_249_632,
        "uptime_format": "14 days, 11:07",
    }
    assert values["net/interface=eth0"]["bytes_recv"] == 9_213_584_312
    (docker,) = (name for name in tags if name.startswith("docker_container_cpu/"))
    assert values[docker]["container_id"].startswith("adc4ba9593871bf2")
    assert len(docker) == 128
    assert {reading.at for reading in readings} == {NOW - 10_000_000}


@pytest.mark.parametrize(
    ("body", "precision", "expected"),
    [
        pytest.param(
            b"\xc2\xb0C,domain=sensor,entity_id=living_room_temperature,"
            b"friendly_name=Living\\ Room\\,\\ upstairs "
            b'device_class_str="temperature",friendly_name_str="Living Room \\"upstairs\\"",'
            b'icon_str="mdi:thermometer",value=21.5 1764400000123456000\n'
            b'light.hall,domain=light,entity_id=hall brightness=254.0,state="on",'
            b"supported_color_modes_str=\"['brightness']\",value=1.0 1764400000123456000\n",
            "ns",
            [
                Reading(
                    "living_room_temperature",
                    "°C/domain=sensor/friendly_name=Living Room, upstairs",
                    b'{"device_class_str":"temperature","friendly_name_str":"Living Room \\"upstairs\\"",'
                    b'"icon_str":"mdi:thermometer","value":21.5}',
                    NOW + 123_456,
                ),
                Reading(
                    "hall",
                    "light.hall/domain=light",
                    b'{"brightness":254.0,"state":"on","supported_color_modes_str":"[\'brightness\']","value":1.0}',
                    NOW + 123_456,
                ),
            ],
            id="Home Assistant, influxdb 5.3",
        ),
        pytest.param(b"\n", "ms", [], id="Home Assistant, as it starts"),
        pytest.param(
            b'm,host=h b=True,i=3i,s="a\\nb"\n',
            "ns",
            [Reading("h", "m", b'{"b":true,"i":3,"s":"a\\\\nb"}', None)],
            id="influxdb 5.3 of Python",
        ),
        pytest.param(
            b"h2o\\ feet,location=coyote\\ creek level=1i,ok=true 1764400000123456000",
            "ns",
            [Reading("x", "h2o feet/location=coyote creek", b'{"level":1,"ok":true}', NOW + 123_456)],
            id="influxdb-client 1.50 of Python",
        ),
        pytest.param(
            b'greenhouse,room=north\\ wing count=3,note="two \\"words\\"",open=true,temperature=21.5',
            "n",
            [
                Reading(
                    "x",
                    "greenhouse/room=north wing",
                    b'{"count":3,"note":"two \\"words\\"","open":true,"temperature":21.5}',
                    None,
                )
            ],
            id="Node-RED, influx 5.12",
        ),
        pytest.param(
            b'greenhouse,room=north\\ wing count=3i,note="x",open=T,temperature=21.5 1764400000123',
            "ms",
            [
                Reading(
                    "x",
                    "greenhouse/room=north wing",
                    b'{"count":3,"note":"x","open":true,"temperature":21.5}',
                    NOW + 123_000,
                )
            ],
            id="Node-RED, influxdb-client 1.35",
        ),
        pytest.param(
            b"wifi_status,device=ESP8266,SSID=My\\ Home rssi=-61i,heap=43.20,uptime=12u 1764400000\n",
            "s",
            [Reading("ESP8266", "wifi_status/SSID=My Home", b'{"rssi":-61,"heap":43.20,"uptime":12}', NOW)],
            id="ESP8266 Influxdb",
        ),
        pytest.param(
            b"cpu_value,host=h,instance=0,type=cpu,type_instance=idle value=98.5 1764400000123\n"
            b"interface_rx,host=h,instance=eth0,type=if_octets value=1234i 1764400000123\n",
            "ms",
            [
                Reading(
                    "h", "cpu_value/instance=0/type=cpu/type_instance=idle", b'{"value":98.5}', NOW + 123_000
                ),
                Reading("h", "interface_rx/instance=eth0/type=if_octets", b'{"value":1234}', NOW + 123_000),
            ],
            id="collectd, as InfluxDB names it",
        ),
        pytest.param(
            b"cpustat,object=nodes,host=pve cpu=0.0312,cpus=8,avg1=0.42 1764400000000000000\n"
            b'system,object=qemu,vmid=100,nodename=pve,host=web cpu=0.02,status="running",uptime=86400',
            "ns",
            [
                Reading("pve", "cpustat/object=nodes", b'{"cpu":0.0312,"cpus":8,"avg1":0.42}', NOW),
                Reading(
                    "web",
                    "system/nodename=pve/object=qemu/vmid=100",
                    b'{"cpu":0.02,"status":"running","uptime":86400}',
                    None,
                ),
            ],
            id="Proxmox",
        ),
    ],
)
def test_what_programs_send(body: bytes, precision: str, expected: list[Reading]) -> None:
    assert decode(body, NOW, precision, fallback_device="x") == expected
