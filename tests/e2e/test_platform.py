"""What apps do with connected devices: publish to them, see who is there."""

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import connection
from mqtt_clients import V5_PAHO, V31, V311_PAHO, Device, gateway, mosquitto
from stack import Stack, answers, wait_until
from support import Account

from thingscale.devices.models import Command

pytestmark = pytest.mark.e2e
PRESENCE_SECONDS = 30.0


def call(
    running: Stack, account: Account, method: str, path: str, body: Any = None, version: str = "v2"
) -> tuple[int, Any]:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(
        running.url(f"/{version}/{path}"), data, {"X-APITOKEN": account.api_token}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def clients(running: Stack, account: Account) -> set[str]:
    return {row["client_id"] for row in call(running, account, "GET", "session")[1]}


def test_the_published_samples_of_curl(stack: Callable[..., Stack], account: Account) -> None:
    """They send curl's own Content-Type, or none."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    running = stack("web")
    account.device("x")

    def curl(path: str, *arguments: str) -> Any:
        command = ["curl", "-sS", "-H", f"X-APITOKEN: {account.api_token}", *arguments, running.url(path)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)

    (device,) = curl("/v2/device/x")
    assert (device["device_id"], device["mapped_ch"]) == ("x", 0)
    assert curl("/v2/event", "-d", '{"mapped_ch": 0, "source": "temp", "threshold": "30"}') == {"event_id": 1}
    changes = ["-X", "PUT", "-H", "Content-Type:", "-d", '{"description": "roof"}']
    assert curl("/v2/device/x", *changes) == {"result": "OK"}
    assert curl("/v2/device/x")[0]["description"] == "roof"


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("version", [V31, V311_PAHO, V5_PAHO])
def test_a_command_arrives_byte_for_byte(
    stack: Callable[..., Stack], account: Account, qos: int, version: Any
) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "d1", version) as device:
        assert device.subscribe("d1/subscribe", qos=2) == [2]
        text = ' {"on": true}\n\tgrün '
        assert call(running, account, "POST", "publish/d1", {"payload": text, "qos": qos}) == (
            200,
            {"result": "OK"},
        )
        assert device.payloads(1) == [text.encode()]
        assert device.messages[0].qos == qos


def test_a_retained_command_to_another_topic(stack: Callable[..., Stack], account: Account) -> None:
    """For who has subscribed, and for who does later, until an empty one takes it back."""
    running = gateway(stack)
    account.device("d1")
    message = {"payload": "on", "qos": 1, "retain": True, "topic": "pumps/north/target"}
    with Device(running, account, "there") as there:
        assert there.subscribe("pumps/#") == [1]
        assert call(running, account, "POST", "publish/d1", message)[0] == 200
        assert there.payloads(1) == [b"on"]
        assert (there.messages[0].topic, there.messages[0].retain) == (
            there.topic("pumps/north/target"),
            False,
        )
    with Device(running, account, "later") as later:
        assert later.subscribe("pumps/+/target") == [1]
        assert later.payloads(1) == [b"on"]
        assert later.messages[0].retain
        assert call(running, account, "POST", "publish/d1", message | {"payload": ""})[0] == 200
        assert later.payloads(2) == [b"", b"on"]
    with Device(running, account, "too late") as late:
        assert late.subscribe("pumps/#") == [1]
        assert (
            call(running, account, "POST", "publish/d1", message | {"payload": "x", "retain": False})[0]
            == 200
        )
        assert late.payloads(1) == [b"x"]
    assert account.stored() == []


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("durable", [False, True], ids=["ordinary", "durable"])
def test_what_became_of_a_command(
    stack: Callable[..., Stack], account: Account, qos: int, durable: bool
) -> None:
    """Nobody was there; or it was delivered, at QoS 1 and 2 acknowledged."""
    running = gateway(stack)
    account.device("d1")

    def publish() -> str:
        assert call(running, account, "POST", "publish/d1", {"payload": "x", "qos": qos})[0] == 200
        return "acknowledged" if qos else "delivered"

    publish()
    assert Command.objects.get().result == "sent"
    Command.objects.all().delete()
    with Device(running, account, "d1", clean=not durable) as device:
        assert device.subscribe("d1/subscribe", qos=2) == [2]
        expected = publish()
        wait_until(lambda: Command.objects.get().result == expected, what=f"it to be {expected}")


def test_a_command_before_a_kill_is_not_lost(stack: Callable[..., Stack], account: Account) -> None:
    """200 is COMMIT: the gateway may be away, and find it when it comes."""
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "d1", clean=False) as device:
        device.subscribe("d1/subscribe")
    running.kill("ingest")
    for number in range(3):
        message = {"payload": str(number), "qos": 1}
        assert call(running, account, "POST", "publish/d1", message) == (200, {"result": "OK"})
    running.ensure("ingest")
    with Device(running, account, "d1", clean=False) as device:
        assert device.payloads(3) == [b"0", b"1", b"2"]


def test_a_command_is_not_taken_before_the_sessions_are_known(
    stack: Callable[..., Stack], account: Account
) -> None:
    """A gateway that starts hears at once that there may be some."""
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "d1", clean=False) as device:
        device.subscribe("d1/subscribe")
    running.kill("ingest")
    message = {"payload": "1", "qos": 1}
    assert call(running, account, "POST", "publish/d1", message) == (200, {"result": "OK"})
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'mqtt_session'::regclass"
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("LOCK TABLE mqtt_session IN ACCESS EXCLUSIVE MODE")
        running.launch("ingest", ["manage.py", "ingest"])
        wait_until(lambda: other.execute(waiting).fetchone() != (0,), 60, "the gateway to ask for sessions")
        time.sleep(0.5)  # it may ask for what was published meanwhile, and should not
    running.ensure("ingest")
    wait_until(lambda: answers(running.mqtt), 60, "the gateway")
    with Device(running, account, "d1", clean=False) as device:
        assert device.payloads(1) == [b"1"]


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("durable", [False, True], ids=["ordinary", "durable"])
@pytest.mark.parametrize("qos", [0, 1])
def test_mosquitto_sub_gets_a_command_byte_for_byte(
    stack: Callable[..., Stack], account: Account, qos: int, durable: bool, version: str
) -> None:
    if not shutil.which("mosquitto_sub"):
        pytest.skip("mosquitto_sub is not installed")
    running = gateway(stack)
    account.device("d1")
    sub = mosquitto("mosquitto_sub", running, account, "mqttv311", "d1/subscribe", "-q", "1")
    sub += ["-i", "sub", "-C", "1", "-N", *(["-c"] if durable else [])]
    text = ' {"on": true}\n\tgrün '
    message = {"payload": text, "qos": qos}

    def heard() -> bool:
        assert call(running, account, "POST", "publish/d1", message, version) == (200, {"result": "OK"})
        return process.poll() is not None

    with subprocess.Popen(sub, stdout=subprocess.PIPE) as process:
        wait_until(heard, what="mosquitto_sub, which may still be subscribing")
        assert process.stdout
        assert (process.returncode, process.stdout.read()) == (0, text.encode())


def test_a_command_waits_for_a_durable_session(stack: Callable[..., Stack], account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "d1", clean=False) as device:
        device.subscribe("d1/subscribe")
    assert call(running, account, "POST", "publish/d1", {"payload": "later", "qos": 1})[0] == 200
    with Device(running, account, "d1", clean=False) as device:
        assert device.payloads(1) == [b"later"]


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        pytest.param("publish/none", {"payload": "x"}, (404, "NO_DEVICE"), id="unknown device"),
        pytest.param("publish/d1", {}, (400, "BAD_JSON_FORMAT"), id="no payload"),
        pytest.param("publish/d1", {"payload": "x", "qos": 3}, (400, "BAD_JSON_FORMAT"), id="QoS 3"),
        pytest.param("publish/d1", ["x"], (400, "BAD_JSON_FORMAT"), id="an array"),
        pytest.param("publish/d1", {"payload": {"a": 1}}, (400, "BAD_JSON_FORMAT"), id="not a string"),
    ],
)
def test_a_command_that_can_not_be_sent(
    stack: Callable[..., Stack], account: Account, path: str, body: Any, answer: tuple[int, str]
) -> None:
    running = stack("web")
    account.device("d1")
    status, document = call(running, account, "POST", path, body)
    assert (status, document["error"]) == answer


def test_nobody_publishes_to_somebody_else(
    stack: Callable[..., Stack], account: Account, outsider: Account
) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "d1") as device:
        device.subscribe("#")
        assert call(running, outsider, "POST", "publish/d1", {"payload": "x"})[0] == 404
        assert call(running, account, "POST", "publish/d1", {"payload": "mine"})[0] == 200
        assert device.payloads(1) == [b"mine"]


def test_in_broker_mode_without_a_broker_the_answer_says_so(
    stack: Callable[..., Stack], account: Account
) -> None:
    account.device("d1")
    nowhere = "mqtt://127.0.0.1:9"
    alone = Stack(THINGSCALE_INGEST="broker", MQTT_URL=nowhere, MQTT5_URL=nowhere)
    try:
        alone.ensure("web")
        status, document = call(alone, account, "POST", "publish/d1", {"payload": "x"})
    finally:
        alone.stop()
    assert (status, document["error"]) == (503, "BROKER_UNAVAILABLE")


@pytest.mark.parametrize(("version", "number"), [(V31, 3), (V311_PAHO, 4), (V5_PAHO, 5)])
def test_a_connected_client_is_listed(
    stack: Callable[..., Stack], account: Account, outsider: Account, version: Any, number: int
) -> None:
    running = gateway(stack)
    with Device(running, account, "here", version, keepalive=45):
        wait_until(lambda: clients(running, account), PRESENCE_SECONDS, "the session")
        (session,) = call(running, account, "GET", "session")[1]
        at = session.pop("connected_at")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000", at)
        assert session == {
            "client_id": "here",
            "ipaddress": "127.0.0.1",
            "clean_sess": True,
            "proto_ver": number,
            "keepalive": 45,
        }
        assert clients(running, outsider) == set()
    wait_until(lambda: not clients(running, account), PRESENCE_SECONDS, "the session's end")


def test_a_client_that_vanishes_or_comes_again_is_listed_truly(
    stack: Callable[..., Stack], account: Account
) -> None:
    running = gateway(stack)
    first, second = Device(running, account, "twice"), Device(running, account, "twice")
    with first, second:
        first.wait_end()
        wait_until(lambda: clients(running, account) == {"twice"}, PRESENCE_SECONDS)
        second.vanish()
        wait_until(lambda: not clients(running, account), PRESENCE_SECONDS)


def test_a_killed_gateway_has_no_clients(stack: Callable[..., Stack], account: Account) -> None:
    running = gateway(stack)
    with Device(running, account, "here"):
        wait_until(lambda: clients(running, account), PRESENCE_SECONDS, "the session")
        running.kill("ingest")
        wait_until(lambda: not clients(running, account), PRESENCE_SECONDS, "the sessions' end")
