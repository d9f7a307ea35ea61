"""Topics without a token, for signed-in clients of an account that has switched them on."""

import asyncio
import signal
import threading
from collections.abc import Callable

import gmqtt
import paho.mqtt.client as mqtt
import pytest
from client import Client, Endpoint
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from stack import Stack, wait_until
from support import Account
from two_gateways import LASTS, Pair, turned

from ingest.mqtt.packets import V5, V31, V311, Version, Will
from thingscale.accounts.actions import choose_own_topics
from thingscale.devices.commands import Message, send
from thingscale.devices.models import Command, Retained
from thingscale.lib.own_topics import MAX_BYTES

pytestmark = pytest.mark.e2e
NOT_AUTHORIZED, TOPIC_NAME_INVALID = 0x87, 0x90
VERSIONS = pytest.mark.parametrize("version", [V31, V311, V5], ids=["3.1", "3.1.1", "5"])
POWER = "cmnd/plug/POWER"


@pytest.fixture
def own(pair: Pair) -> Pair:
    """Of an account that has them."""
    choose_own_topics(pair.account.user, True)
    return pair


def connected(pair: Pair, at: Stack, name: str, version: Version = V5) -> Client:
    client = pair.client(at, name, version)
    client.connect()
    return client


def refusal(version: Version) -> int:
    return NOT_AUTHORIZED if version == V5 else 0x80


@VERSIONS
def test_they_are_refused_until_the_account_has_switched_them_on(pair: Pair, version: Version) -> None:
    """For clients that are connected already, at once; and again once it has switched them off."""
    client = connected(pair, pair.a, "c", version)
    refused = NOT_AUTHORIZED if version == V5 else 0
    for _ in range(2):
        assert client.subscribe(POWER) == refusal(version)
        assert client.subscribe("#") == refusal(version)
        assert client.publish(POWER, b"nobody's") == refused
        choose_own_topics(pair.account.user, True)
        wait_until(lambda: client.subscribe(POWER) == 2, 30, "it to be switched on")
        assert client.publish(POWER, b"ON") == 0
        client.message(b"ON")
        choose_own_topics(pair.account.user, False)
        wait_until(lambda: client.subscribe(POWER) == refusal(version), 30, "it to be switched off")
        client.publish(POWER, b"nobody's")
        assert client.unsubscribe(POWER) in ([0], [])
    client.nothing()


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_reaches_its_subscribers_at_all_gateways(own: Pair, version: Version, qos: int) -> None:
    ears = [connected(own, at, f"ear {place}", version) for place, at in enumerate((own.a, own.b))]
    for ear in ears:
        assert ear.subscribe(POWER) == 2
    mouth = connected(own, own.b, "mouth", version)
    mouth.publish(POWER, b"ON", qos)
    for ear in ears:
        packet = ear.message(b"ON", qos)
        assert packet.topic == POWER


@VERSIONS
def test_they_do_not_mix_with_topics_below_the_token(own: Pair, version: Version) -> None:
    token = own.account.device_token
    below, without = connected(own, own.a, "below", version), connected(own, own.a, "without", version)
    for filter_ in ("#", "+/x/y", "json/x", "+/subscribe", "+/+/+", "+"):
        assert below.subscribe(f"{token}/{filter_}") == 2
        assert without.subscribe(filter_) == 2
    own.account.device("x")
    topics = ["x/x/y", "json/x", "d/subscribe", "a", "/a", "a/b/c/d"]
    mouth = connected(own, own.b, "mouth", version)
    for topic in topics:
        assert mouth.publish(topic, b"1", retain=True) == 0
    assert mouth.publish(f"{token}/json/x", b"2", retain=True) == 0
    assert mouth.publish(f"{token}/d/subscribe", b"3", retain=True) == 0
    assert mouth.publish(f"{token}/d/subscribe", b"end") == 0
    assert mouth.publish("a", b"end") == 0
    heard = {packet.topic for packet in without.messages_until(b"end")}
    assert heard == set(topics)
    heard = {packet.topic for packet in below.messages_until(b"end")}
    assert heard == {f"{token}/json/x", f"{token}/d/subscribe"}
    for at in (own.a, own.b):
        late = connected(own, at, "late", version)
        late.subscribe("#")
        assert sorted(late.message(b"1").topic for _ in topics) == sorted(topics)
        late.nothing()
        late.subscribe(f"{token}/#")
        assert {late.message().topic for _ in range(2)} == heard
        late.nothing()
        late.disconnect()
    assert own.account.stored() == [("2", None)], "json/x without a token is no datapoint"


@VERSIONS
def test_nobody_else_hears_them(own: Pair, outsider: Account, version: Version) -> None:
    choose_own_topics(outsider.user, True)
    endpoint = Endpoint(own.a.mqtt, outsider.user_id, outsider.device_token.encode())
    other = Client(endpoint, "c", version)
    own.ended.callback(other.vanish)
    other.connect()
    assert other.subscribe(POWER) == other.subscribe("#") == other.subscribe("$share/g/#") == 2
    mine = connected(own, own.a, "c", version)
    assert mine.subscribe(f"{outsider.device_token}/#") == refusal(version)
    assert mine.subscribe("#") == 2
    for qos in (0, 1, 2):
        mine.publish(POWER, b"mine", qos, retain=True)
        mine.message(b"mine")
    other.nothing()
    other.subscribe("#")
    other.nothing()
    other.publish(POWER, b"theirs", retain=True)
    assert other.message(b"theirs").topic == POWER
    mine.nothing()
    assert Retained.objects.count() == 2


@VERSIONS
def test_forms_that_nobody_may_use(own: Pair, version: Version) -> None:
    client = connected(own, own.a, "c", version)
    token = own.account.device_token
    for filter_ in (
        "$SYS/#",
        "$share/g/$SYS/#",
        f"{'0' * 32}/x",
        f"{'a' * 32}/#",
        f"{token}/\2/#",
        f"{token}/\2",
    ):
        assert client.subscribe(filter_) == refusal(version)
    assert client.subscribe("#") == 2
    for topic in ("$SYS/x", f"{'0' * 32}/x", f"{'aB' * 16}/x", f"{token}/\2/a", f"{token}/\2"):
        assert client.publish(topic, b"x", 1) == (NOT_AUTHORIZED if version == V5 else 0)
    for topic in ("x" * (MAX_BYTES + 1), "/" * 64):
        assert client.publish(topic, b"x", 1, retain=True) == (TOPIC_NAME_INVALID if version == V5 else 0)
    client.nothing()
    for topic in ("x" * MAX_BYTES, "/" * 63, "\2/a", "Ü" * (MAX_BYTES // 2)):
        assert client.publish(topic, b"x", 1, retain=True) == 0
        assert client.message(b"x").topic == topic


@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
def test_a_durable_session_gets_what_came_while_it_was_away(own: Pair, version: Version) -> None:
    for here in (own, turned(own)):
        ear = here.lasting(here.a, "ear", version)
        assert ear.subscribe("cmnd/+/POWER", 1) == 1
        assert ear.subscribe("stat/#", 2) == 2
        ear.disconnect()
        mouth = connected(own, here.b, "mouth", version)
        for number in range(5):
            assert mouth.publish(POWER, b"%d" % number, 2) == 0
            assert mouth.publish("stat/x/y", b"%d" % number, 2) == 0
        assert mouth.publish("stat", b"end", 1) == 0
        assert ear.connect(clean=False, properties=LASTS if version == V5 else None).session_present
        found = [(packet.topic, packet.payload, packet.qos) for packet in ear.messages_until(b"end")]
        assert [each for each in found if each[0] == POWER] == [(POWER, b"%d" % n, 1) for n in range(5)]
        assert [each for each in found if each[0] != POWER] == [("stat/x/y", b"%d" % n, 2) for n in range(5)]
        ear.connect(clean=True)
        ear.disconnect()


def test_a_durable_session_moves_to_another_gateway(own: Pair) -> None:
    ear = own.lasting(own.a, "ear")
    ear.subscribe("#", 1)
    ear.disconnect()
    own.b.kill("ingest", signal.SIGTERM)
    own.b.ensure("ingest")
    ear.endpoint = ear.endpoint._replace(port=own.b.mqtt)
    assert ear.connect(clean=False, properties=LASTS).session_present
    mouth = connected(own, own.a, "mouth")
    assert mouth.publish(POWER, b"ON") == 0
    assert ear.message(b"ON").topic == POWER
    assert ear.unsubscribe("#") == [0]


@VERSIONS
def test_of_a_share_group_one_gets_it(own: Pair, version: Version) -> None:
    members = [connected(own, at, f"member {place}", version) for place, at in enumerate((own.a, own.b))]
    for member in members:
        assert member.subscribe("$share/g/stat/#", 1) == 1
    token_member = connected(own, own.a, "below the token", version)
    assert token_member.subscribe(f"$share/g/{own.account.device_token}/#", 1) == 1
    mouth = connected(own, own.b, "mouth", version)
    for _ in range(10):
        mouth.publish("stat/x", b"1")
    got = 0
    while got < 10:
        before = got
        for member in members:
            member.ping()
            for packet in member.arrived():
                member.accept(packet)  # type: ignore[arg-type]
                got += 1
        if got == before:
            mouth.ping()
    token_member.nothing()


@VERSIONS
def test_wills(own: Pair, version: Version) -> None:
    ear = connected(own, own.b, "ear", version)
    ear.subscribe("tele/#", 1)
    client = own.client(own.a, "c", version)
    client.connect(will=Will("tele/plug/LWT", b"Offline", 1, True, {}))
    client.vanish()
    packet = ear.message(b"Offline")
    assert packet.topic == "tele/plug/LWT"
    late = connected(own, own.a, "late", version)
    late.subscribe("tele/plug/LWT", 1)
    assert late.message(b"Offline").retain
    if version == V5:
        client.connect(will=Will("tele/plug/LWT", b"delayed", 1, False, {0x18: 1}), properties={0x11: 60})
        client.vanish()
        assert ear.message(b"delayed").topic == "tele/plug/LWT"
        client.connect(will=Will("tele/plug/LWT", b"killed", 1, False, {}))
        own.a.kill("ingest")
        assert ear.message(b"killed").topic == "tele/plug/LWT"


def test_properties_of_mqtt_5(own: Pair) -> None:
    ear = own.client(own.b, "ear")
    ear.connect(properties={0x22: 10})  # topic aliases
    ear.subscribe("a/+", 2, identifier=7)
    mouth = connected(own, own.a, "mouth")
    token = own.account.device_token
    for response, as_read in ((POWER, POWER), (f"{token}/d/subscribe", f"{token}/d/subscribe")):
        sent = {0x01: 1, 0x02: 60, 0x03: "text/plain", 0x08: response, 0x09: b"id", 0x26: [("a", "b")]}
        assert mouth.publish("a/b", b"x", 2, properties=sent) == 0
        packet = ear.message(b"x", 2)
        assert packet.topic in ("a/b", "")  # by its alias the second time
        got = dict(packet.properties)
        assert got.pop(0x02) in (59, 60)
        assert got.pop(0x23) == 1
        assert got.pop(0x0B) == [7]
        assert got == {key: value for key, value in sent.items() if key != 0x02} | {0x08: as_read}
    silent = connected(own, own.a, "silent")
    silent.subscribe("#", 1, no_local=True)
    silent.subscribe(f"{token}/#", 1)
    assert silent.publish("a/c", b"own") == 0
    silent.nothing()
    assert mouth.publish("a/d", b"1", properties={0x23: 1}) == 0
    assert mouth.publish("", b"2", properties={0x23: 1}) == 0
    assert [silent.message().topic for _ in range(2)] == ["a/d", "a/d"]


def test_large_messages(own: Pair) -> None:
    ear, mouth = connected(own, own.b, "ear", V311), connected(own, own.a, "mouth", V311)
    ear.subscribe("a", 1)
    assert mouth.publish("a", b"x" * 200_000) == 0
    assert len(ear.message().payload) == 200_000
    assert mouth.publish("a", b"x" * 400_000) == 0  # read past, and recorded
    assert mouth.publish("a", b"end") == 0
    ear.message(b"end")


def test_apps_publish_to_the_firmware_s_own_topics(own: Pair) -> None:
    device = own.account.device("plug")
    ears = [own.lasting(own.a, "a"), own.lasting(own.b, "b")]
    for ear in ears:
        ear.subscribe("cmnd/#", 1)
        ear.subscribe(f"{own.account.device_token}/cmnd/#", 1)
    ears[1].disconnect()
    own.account.user.refresh_from_db()
    command = send(own.account.user, device, Message(b"ON", 1, topic=POWER), Command.By.API)
    assert command.topic == POWER
    assert ears[0].message(b"ON").topic == POWER
    ears[1].connect(clean=False, properties=LASTS)
    assert ears[1].message(b"ON").topic == POWER
    wait_until(lambda: Command.objects.get().result == Command.ACKNOWLEDGED, 30, "it to be acknowledged")
    choose_own_topics(own.account.user, False)
    own.account.user.refresh_from_db()
    send(own.account.user, device, Message(b"OFF", 1, topic=POWER), Command.By.API)
    assert ears[0].message(b"OFF").topic == f"{own.account.device_token}/{POWER}"


def test_who_has_not_signed_in_has_none(stack: Callable[..., Stack], account: Account) -> None:
    choose_own_topics(account.user, True)
    running = Stack(THINGSCALE_ALLOW_ANONYMOUS="true")
    running.ensure("ingest")
    try:
        ear = Client(Endpoint(running.mqtt, account.user_id, account.device_token.encode()), "ear")
        ear.connect()
        assert ear.subscribe("#") == 2
        for version, refused in ((V311, 0), (V5, NOT_AUTHORIZED)):
            nobody = Client(Endpoint(running.mqtt, "", b""), "nobody", version)
            nobody.dial()
            connect = nobody.connect_packet()._replace(username=None, password=None)
            nobody.send(connect)
            assert nobody.receive().code == 0  # type: ignore[union-attr]
            assert nobody.subscribe("#") == refusal(version)
            assert nobody.publish(POWER, b"x") == refused
            nobody.vanish()
        ear.nothing()
        ear.vanish()
    finally:
        running.stop()


# Unmodified clients


@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5])
def test_paho(own: Pair, version: MQTTProtocolVersion) -> None:
    heard: list[tuple[str, bytes]] = []
    ready = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "paho", protocol=version)
    client.username_pw_set(own.account.user_id, own.account.device_token)

    def subscribe(*_: object) -> None:
        client.subscribe([("cmnd/+/POWER", 1), ("$share/g/stat/#", 2)])

    client.on_message = lambda _client, _data, m: heard.append((m.topic, bytes(m.payload)))
    client.on_connect = subscribe
    client.on_subscribe = lambda *_: ready.set()
    client.will_set("tele/plug/LWT", b"Offline", 1, True)
    client.connect("127.0.0.1", own.a.mqtt)
    client.loop_start()
    try:
        assert ready.wait(60)
        for topic, qos in ((POWER, 1), ("stat/plug/RESULT", 2), ("tele/plug/STATE", 0)):
            client.publish(topic, b"x", qos, retain=True).wait_for_publish(60)
        wait_until(lambda: len(heard) == 2, 60, "both messages")
        assert {topic for topic, _ in heard} == {POWER, "stat/plug/RESULT"}
    finally:
        client.disconnect()
        client.loop_stop()


def test_gmqtt(own: Pair) -> None:
    async def scenario() -> None:
        heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        ready = asyncio.Event()
        client = gmqtt.Client("gmqtt")
        client.set_auth_credentials(own.account.user_id, own.account.device_token)
        client.on_connect = lambda c, *_: c.subscribe("stat/#", 1)
        client.on_subscribe = lambda *_, **__: ready.set()

        async def on_message(_client: object, topic: str, payload: bytes, *_: object) -> int:
            heard.put_nowait((topic, payload))
            return 0

        client.on_message = on_message
        await client.connect("127.0.0.1", own.b.mqtt)
        async with asyncio.timeout(60):
            await ready.wait()
            client.publish("stat/plug/RESULT", b"x", qos=1)
            assert await heard.get() == ("stat/plug/RESULT", b"x")
        await client.disconnect()

    asyncio.run(scenario())
