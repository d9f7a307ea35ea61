"""One book of JSON rules: a table of values through every door, with the same verdict and the same text."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from django.db import connection
from mqtt_clients import V5_PAHO, Device, Start, gateway
from stack import Stack
from support import Account

from ingest.decode import decode
from ingest.message import Kind
from thingscale.lib.json_rules import BadValue
from thingscale.provisioning.actions import configure_device

pytestmark = pytest.mark.e2e

MANY = ",".join(["1e308"] * 10_800)
# JSON text of a member of an object; whether it is taken
JSON_VALUES: list[tuple[str, bool]] = [
    *((text, True) for text in ("1e305", "1e+305", "1E308", "-1.7976931348623157e308", "5e-324", "4.9E-324")),
    *((text, True) for text in ("23.40", "-0.0", "12E4", "9" * 308, "0e500", "1e-07", "0." + "3" * 998)),
    *(
        (text, True)
        for text in ("true", "false", "null", "{}", "[]", '"x"', '"\\\\u0000"', '"1e999"', '"é😀"')
    ),
    *((text, True) for text in ("[" * 31 + "]" * 31, f"[{','.join(['1e308'] * 800)}]", '"é😀"')),
    *((text, False) for text in ("1e309", "-1E+309", "9" * 309, "2e-324", "1e-400", "0." + "3" * 1000)),
    *(
        (text, False)
        for text in (
            "1e200000",
            "-1E+200000",
            "0E200000",
            "1e-200000",
            "1e309.5",
            "nan",
            "-NaN",
            "1e",
            "0x1F",
        )
    ),
    *((text, True) for text in ("12e4", "-12E+4", '"1e200000"', '"NaN"', "1.7976931348623157e+308")),
    *(
        (text, False)
        for text in ("NaN", "Infinity", "-Infinity", "01", "+1", ".5", "'x'", '"a\tb"', '"\x00"')
    ),
    *(
        (text, False)
        for text in ('"\\u0000"', '{"\\u0000": 1}', '"\\ud800"', "[" * 32 + "]" * 32, f"[{MANY}]")
    ),
]
# what a device sends bare; its JSON text, None: refused
BARE: list[tuple[bytes, str | None]] = [
    *(
        (text.encode(), f'"{text}"')
        for text in ("ON", "Offline", "04A1B2", "12E4", "1e309", "007", "nan", "null")
    ),
    # No number without a sign in the exponent, however great: text, as it was sent.
    *(
        (text.encode(), f'"{text}"')
        for text in ("NaN", "Infinity", "-Infinity", "-1E309", "1e200000", "-12e4", "1e309.5", "0x1F", "1e+")
    ),
    *((text.encode(), None) for text in ("1e+200000", "-1E-200000", "-1e+309", "1e-400", "[1e309]", "{NaN}")),
    *((text.encode(), text) for text in ("23.40", "-3", "0", "true", "false", "0.0000070", "9" * 308)),
    (b"\xef\xbb\xbfON\r\n\0", '"ON"'),
    (b" 12.50 \r\n", "12.50"),
    (b"7e-06", "0.000007"),
    *(
        (payload, None)
        for payload in (b"", b" ", b"O\0N", b"a\nb", b"\xff", b"1e+309", b"9" * 400, b"{", b'"x')
    ),
]


def request(url: str, body: bytes, **headers: str) -> int:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, named), timeout=60) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def stored_by_tag(account: Account, channel: int = 0) -> dict[str | None, str]:
    return {tag: value for value, tag in account.stored(channel)}


def decoded(payload: bytes) -> bool:
    """What broker mode's worker does with it before anything else."""
    try:
        decode(Kind.JSON, payload)
    except BadValue:
        return False
    return True


def doors(running: Stack, account: Account, device: Device) -> dict[str, Callable[[int, str], bool]]:
    """By name: sends a value as row number n, tagged with the door and the row; whether it was taken."""
    rest, post = running.url("/v2/stream/0"), running.url("/post_v2/")

    def point(n: int, value: str, door: str) -> bytes:
        return f'{{"value": {value}, "tag": "{door}-{n}"}}'.encode(errors="surrogatepass")

    def by_rest(n: int, value: str, body: Callable[[bytes], bytes], door: str) -> bool:
        return request(rest, body(point(n, value, door)), X_APITOKEN=account.api_token) == 201

    def by_http(n: int, value: str) -> bool:
        named = {"X_DEVICETOKEN": account.device_token, "X_DEVICEID": f"r{n}", "X_TAGNAME": f"http-{n}"}
        return request(post, value.encode(), **named) == 200

    return {
        "mqtt": lambda n, value: device.publish(f"json/r{n}/mqtt-{n}", value.encode()) == 0,
        "mqtt-array": lambda n, value: (
            device.publish(f"json/r{n}", b"[%s]" % point(n, value, "mqtt-array")) == 0
        ),
        "http": by_http,
        "rest": lambda n, value: by_rest(n, value, bytes, "rest"),
        "rest-array": lambda n, value: by_rest(
            n, value, lambda body: b"[%s,%s]" % (body, body), "rest-array"
        ),
        "held": lambda n, value: device.publish(f"json/held/held-{n}", value.encode()) == 0,
        "broker": lambda n, value: decoded(value.encode()),
    }


def test_d6_the_same_values_through_every_door(stack: Start, account: Account) -> None:
    running = gateway(stack)
    waiting = account.device("held", None)
    for n in range(len(JSON_VALUES)):
        account.device(f"r{n}")
    with Device(running, account, version=V5_PAHO) as device:
        for name, send in doors(running, account, device).items():
            for n, (text, taken) in enumerate(JSON_VALUES):
                assert send(n, f'{{"a": {text}}}') is taken, (name, text[:40])
    configure_device(waiting, {"mapped_channel": account.channel()})
    found = stored_by_tag(account)
    for n, (text, taken) in enumerate(JSON_VALUES):
        texts = {
            found.get(f"{door}-{n}") for door in ("mqtt", "mqtt-array", "http", "rest", "rest-array", "held")
        }
        assert len(texts) == 1, text[:40]
        assert (texts != {None}) is taken, text[:40]


def test_d8_the_same_bare_payloads_by_mqtt_and_http(stack: Start, account: Account) -> None:
    running = gateway(stack)
    for n in range(len(BARE)):
        account.device(f"r{n}")
    with Device(running, account, version=V5_PAHO) as device:
        for n, (payload, text) in enumerate(BARE):
            named = {"X_DEVICETOKEN": account.device_token, "X_DEVICEID": f"r{n}", "X_TAGNAME": f"http-{n}"}
            assert (device.publish(f"json/r{n}/mqtt-{n}", payload) == 0) is (text is not None), payload[:20]
            status = request(running.url("/post_v2/"), payload, **named)
            assert (status == 200) is (text is not None), payload[:20]
            assert decoded(payload) is (text is not None), payload[:20]
    url = running.url("/v2/stream/0?endtime=last&pagelimit=10000")
    asked = urllib.request.Request(url, headers={"X-APITOKEN": account.api_token})
    with urllib.request.urlopen(asked, timeout=60) as response:
        read_back = response.read().decode()
    found = stored_by_tag(account)
    for n, (_, text) in enumerate(BARE):
        assert (f'"tag":"http-{n}","value":{text},"at"' in read_back) is (text is not None), text
        assert (found.get(f"mqtt-{n}"), found.get(f"http-{n}")) == (text, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("23.40", "23.40"),
        ("7e-06", "0.000007"),
        ("12E4", '"12E4"'),
        *((text, f'"{text}"') for text in ("1e309", "-1E309", "NaN", "Infinity", "1e200000")),
        ("1e%2B200000", None),
        ("-1e-400", None),
        ("true", '"true"'),
        ("1e%2B309", None),
        ("9" * 400, None),
    ],
)
def test_d6_states_and_v1_follow_the_same_book(
    stack: Start, account: Account, text: str, value: str | None
) -> None:
    """Their values are text by nature, but for numbers: true is the word there."""
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, version=V5_PAHO) as device:
        assert (device.publish("state/d1", f"a={text}".encode()) == 0) is (value is not None)
        assert (device.publish("d1", f"v={text}".encode()) == 0) is (value is not None)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (state -> 'a')::text FROM devices_device WHERE user_id = %s", [account.user.pk]
        )
        assert cursor.fetchone()[0] == value
    assert [json.loads(row)["value"] for row, _ in account.stored()] == ([json.loads(value)] if value else [])
