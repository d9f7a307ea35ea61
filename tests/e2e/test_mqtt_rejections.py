"""What can't be stored is answered, recorded with its reason, and told to the device."""

import json
import socket
from typing import Any

import pytest
from django.db import connection
from mqtt_clients import V5_PAHO, V31, V311_PAHO, Device, Raw, Start, connect_packet, gateway, json_publish
from paho.mqtt.enums import MQTTProtocolVersion
from stack import wait_until
from support import Account

from ingest.mqtt.packets import PUBACK, PUBREC, V5, Ack, Disconnect

pytestmark = pytest.mark.e2e

NOT_AUTHORIZED, TOPIC_NAME, TOO_LARGE, QUOTA, FORMAT = 0x87, 0x90, 0x95, 0x97, 0x99
LONG = "x" * 65
# topic behind the token, payload, reason, MQTT 5 reason code
CASES: list[tuple[str, bytes, str, int]] = [
    ("json/d1", b'{"broken": ', "BAD_JSON_FORMAT", FORMAT),
    ("json/d1", b"", "BAD_JSON_FORMAT", FORMAT),
    ("json/d1", b"two\nlines", "BAD_JSON_FORMAT", FORMAT),
    ("json/d1", b'{"a": Infinity}', "BAD_JSON_FORMAT", FORMAT),
    ("json/d1", b'"a\\u0000b"', "NUL_CHARACTER", FORMAT),
    ("json/d1", b'"caf\xe9"', "BAD_JSON_FORMAT", FORMAT),
    ("json/d1", b'{"a":' * 1000 + b"1" + b"}" * 1000, "BAD_JSON_FORMAT", FORMAT),
    ("json/d1", b"[1, 2]", "BAD_JSON_FORMAT", FORMAT),
    ("json/d1", b"[]", "BAD_JSON_FORMAT", FORMAT),
    ("json/d1", b'[{"value": 1}, {"value": 1, "at": "soon"}]', "BAD_JSON_FORMAT", FORMAT),
    ("json/d1", b'[{"value": "' + b"x" * 65_535 + b'"}]', "TOO_LARGE", FORMAT),
    ("json/d1", b'"' + b"x" * 70_000 + b'"', "TOO_LARGE", FORMAT),
    ("binary/d1", b"x" * 70_000, "TOO_LARGE", FORMAT),
    ("d1", b"no pairs", "BAD_JSON_FORMAT", FORMAT),
    ("json/0", b"1", "DEVICE_ID_ZERO", TOPIC_NAME),
    ("json/", b"1", "DEVICE_ID_ZERO", TOPIC_NAME),
    (f"json/{LONG}", b"1", "BAD_PARAMETER", TOPIC_NAME),
    ("json/d\x011", b"1", "BAD_PARAMETER", TOPIC_NAME),
    (f"json/d1/{LONG}{LONG}", b"1", "UNKNOWN_TOPIC", TOPIC_NAME),
    ("state/d1/tag/more", b"1", "UNKNOWN_TOPIC", TOPIC_NAME),
    ("xml/d1/x/y", b"1", "UNKNOWN_TOPIC", TOPIC_NAME),
    ("events/1", b'{"state": "ok"}', "PLATFORM_TOPIC", NOT_AUTHORIZED),
    ("json/off", b"1", "DEVICE_DISABLED", NOT_AUTHORIZED),
    ("json/one too many", b"1", "MAX_DEVICE_REACH", QUOTA),
]


def prepare(account: Account) -> None:
    """d1 works, off is disabled, and there is no room for a third."""
    account.device("d1")
    off = account.device("off")
    off.enabled = False
    off.save()
    account.user.max_devices = 2
    account.user.save()


@pytest.mark.parametrize(
    "version",
    [pytest.param(V31, id="3.1"), pytest.param(V311_PAHO, id="3.1.1"), pytest.param(V5_PAHO, id="5")],
)
def test_a_rejected_message_is_answered_recorded_and_reported(
    stack: Start, account: Account, version: MQTTProtocolVersion
) -> None:
    running = gateway(stack)
    prepare(account)
    with Device(running, account, version=version) as device, Device(running, account) as neighbour:
        assert neighbour.subscribe("+/errors") == [1]
        for rest, payload, reason, code in CASES:
            answer = device.publish(rest, payload)
            assert answer == (code if version == V5_PAHO else 0), (rest, reason)
            assert neighbour.publish("json/d1", b'"good"') == 0
        assert device.ended is None
        reported = [reason for rest, _, reason, _ in CASES if reported_to(rest)]
        neighbour.payloads(len(reported))
        assert [json.loads(message.payload)["error"] for message in neighbour.messages] == reported
    recorded = account.user.rejected.order_by("id").values_list("reason", flat=True)
    assert list(recorded) == [reason for _, _, reason, _ in CASES]
    assert account.stored() == [('"good"', None)] * len(CASES)


def reported_to(rest: str) -> bool:
    """Whether there is a device to report to."""
    levels = rest.split("/")
    return levels[-1] != "" and len(levels) <= 3 and levels[0] not in {"xml", "events"}


def test_errors_arrive_at_the_device_that_caused_them(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account) as device:
        assert device.subscribe("d1/errors") == [1]
        assert device.publish("json/d1", b"{") == 0
        assert [json.loads(payload) for payload in device.payloads(1)] == [{"error": "BAD_JSON_FORMAT"}]
        assert device.messages[0].topic == device.topic("d1/errors")


def test_b3_what_a_limit_refuses_is_told_with_the_limit(
    stack: Start, account: Account, outsider: Account
) -> None:
    running = gateway(stack)
    prepare(account)
    account.user.max_tags = 0
    account.user.save()
    with Device(running, account) as neighbour, Device(running, outsider) as other:
        assert neighbour.subscribe("+/errors") == [1]
        assert other.subscribe("+/errors") == [1]
        assert neighbour.publish("json/d1/attic", b"1") == 0
        assert neighbour.publish("json/one too many", b"1") == 0
        assert [json.loads(payload) for payload in neighbour.payloads(2)] == [
            {
                "error": "MAX_DEVICE_REACH",
                "detail": "You can have 2 devices: delete one first, or ask the operator for more.",
            },
            {
                "error": "QUOTA_EXCEEDED",
                "detail": "There is no room for 1 more tag: you can have 0 in all channels. Delete tags that"
                " are no longer used, or ask the operator for more.",
            },
        ]
        assert other.messages == []


def test_bad_messages_do_not_harm_good_ones_of_the_same_segment(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    payloads = [b"1", b"{", b"2", b'"\\u0000"', b"1e+400", b"3"]
    with Raw(running.mqtt, V5) as client:
        client.open(connect_packet(account, "raw", V5))
        client.send(*[json_publish(account, "d1", p, 1, i) for i, p in enumerate(payloads, 1)])
        answers = [client.receive() for _ in payloads]
    codes = [0, FORMAT, 0, FORMAT, FORMAT, 0]
    assert answers == [Ack(PUBACK, i, code, {}) for i, code in enumerate(codes, 1)]
    assert account.stored() == [("1", None), ("2", None), ("3", None)]


def test_a_failed_qos_2_exchange_is_over(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    with Raw(running.mqtt, V5) as client:
        client.open(connect_packet(account, "raw", V5))
        client.send(json_publish(account, "d1", b"{", 2, 5))
        assert client.receive() == Ack(PUBREC, 5, FORMAT, {})
        client.send(json_publish(account, "d1", b"6", 2, 5))
        assert client.receive() == Ack(PUBREC, 5, 0, {})
    assert account.stored() == [("6", None)]


def test_a_packet_beyond_the_limit_closes_the_connection(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    huge = b'"' + b"x" * 300_000 + b'"'
    with Device(running, account) as neighbour, Device(running, account, version=V5_PAHO) as device:
        device.client.publish(device.topic("json/d1"), huge, 1)
        assert device.wait_end() == TOO_LARGE
        with Raw(running.mqtt) as older:
            older.open(connect_packet(account, "raw"))
            older.send(b"\x30\xff\xff\xff\x7f")  # 256 MiB
            assert older.receive() is None
        assert neighbour.publish("json/d1", b"1") == 0
    assert account.stored() == [("1", None)]


def test_the_reason_of_a_large_packet_is_a_disconnect(stack: Start, account: Account) -> None:
    running = gateway(stack)
    with Raw(running.mqtt, V5) as client:
        client.open(connect_packet(account, "raw", V5))
        client.send(b"\x30\x81\xa0\x10")
        assert client.receive() == Disconnect(TOO_LARGE, {})
        assert client.receive() is None


@pytest.mark.parametrize("qos", [1, 2])
def test_i7_what_the_platform_fails_to_store_is_acknowledged_once_it_is_stored(
    stack: Start, account: Account, qos: int
) -> None:
    """A constraint that no payload can break: other messages of the client go on, this one waits."""
    running = gateway(stack)
    account.device("d1")
    with Device(running, account) as device:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE streams_tag ADD CONSTRAINT novel CHECK (name <> 'late')")
        try:
            waiting = device.client.publish(device.topic("json/d1/late"), b"1", qos)
            assert device.publish("json/d1", b"2") == 0
            assert not waiting.is_published()
            assert account.stored() == [("2", None)]
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE streams_tag DROP CONSTRAINT novel")
        wait_until(waiting.is_published, 60, "the acknowledgement")
        assert device.ended is None
    assert sorted(account.stored()) == [("1", "late"), ("2", None)]
    assert not account.user.rejected.exists()


def refusals(account: Account) -> list[tuple[str, str]]:
    return sorted(account.user.rejected.values_list("reason", "source"))


def test_c12_every_refusal_is_there_with_its_reason_and_the_whole_topic(
    stack: Start, account: Account, outsider: Account
) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account) as device:
        for topic in (
            "home/kitchen/temp",
            "d1/x",
            f"{outsider.device_token}/json/d1",
            device.topic("json/d1/a//b"),
        ):
            assert device.publish_to(topic, b"1", 1) == 0
        assert device.publish("json/d1/deep/tag", b"{") == 0
        assert device.publish("json/d1", b"Offline") == 0
    assert refusals(account) == sorted(
        [
            ("AUTH_REQUIRED", "home/kitchen/temp"),
            ("AUTH_REQUIRED", "d1/x"),
            ("AUTH_REQUIRED", "TOKEN/json/d1"),
            ("UNKNOWN_TOPIC", "TOKEN/json/d1/a//b"),
            ("BAD_JSON_FORMAT", "TOKEN/json/d1/deep/tag"),
        ]
    )
    assert account.stored() == [('"Offline"', None)]
    assert refusals(outsider) == []


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("home/d1/lwt", b"Offline", "AUTH_REQUIRED"),
        ("TOKEN/json/d1/lwt/", b"Offline", "UNKNOWN_TOPIC"),
        ("TOKEN/json/d1/lwt", b"{", "BAD_JSON_FORMAT"),
    ],
)
def test_c12_a_rejected_will_shows_its_topic(
    stack: Start, account: Account, topic: str, payload: bytes, reason: str
) -> None:
    running = gateway(stack)
    account.device("d1")
    device = Device(running, account)
    device.client.will_set(topic.replace("TOKEN", account.device_token), payload, 1)
    assert device.connect() == 0
    connected: Any = device.client.socket()
    connected.shutdown(socket.SHUT_RDWR)  # no goodbye
    wait_until(lambda: refusals(account) == [(reason, topic)], 60, "the will")
    device.close()


def test_c12_a_refused_sign_in_is_listed_for_the_account_that_it_names(
    stack: Start, account: Account, outsider: Account
) -> None:
    running = gateway(stack)
    wrong = [
        Device(running, account, "pump_1", token="0" * 32),
        Device(running, account, "pump_1", token="1" * 32),
        Device(running, account, "pump_2", user_id="U999999999"),
        Device(running, account, "pump_3", token="x", user_id="nobody"),
        *(Device(running, account, f"flood_{n}", token="2" * 32) for n in range(12)),
    ]
    for device in wrong:
        assert device.connect() != 0
        device.close()
    wait_until(lambda: len(refusals(account)) == 10, 60, "ten an hour")
    found = refusals(account)
    assert {reason for reason, _ in found} == {"SIGN_IN_REFUSED"}
    assert [source for _, source in found if "pump_1" in source] == [
        f"CONNECT as user {account.user_id}, client pump_1"
    ]
    assert refusals(outsider) == []
