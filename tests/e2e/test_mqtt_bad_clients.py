"""Clients that may not, or can't speak the protocol, get their answer; a neighbour goes on undisturbed."""

import socket
from collections.abc import Iterator

import pytest
from mqtt_clients import HOST, V5_PAHO, V31, V311_PAHO, Device, Raw, Start, connect_packet, gateway
from paho.mqtt.enums import MQTTProtocolVersion
from stack import Stack
from support import Account

from ingest.mqtt.packets import V5, V311, Disconnect, Subscribe, Subscription, Version

pytestmark = pytest.mark.e2e
BAD_PASSWORD, NOT_AUTHORIZED = 0x86, 0x87  # so paho names the codes of MQTT 3, too


class Neighbour:
    """Publishes, and knows that all of it is stored."""

    def __init__(self, running: Stack, account: Account) -> None:
        self.device = Device(running, account, "neighbour")
        self.account = account
        self.sent = 0

    def goes_on(self) -> None:
        assert self.device.publish("json/neighbour", b"%d" % self.sent) == 0
        self.sent += 1

    def check(self) -> None:
        assert self.device.ended is None
        assert self.account.stored() == [(str(number), None) for number in range(self.sent)]


@pytest.fixture
def running(stack: Start) -> Stack:
    return gateway(stack)


@pytest.fixture
def neighbour(running: Stack, account: Account) -> Iterator[Neighbour]:
    account.device("neighbour")
    made = Neighbour(running, account)
    with made.device:
        yield made
        made.goes_on()
        made.check()


@pytest.mark.parametrize("version", [V31, V311_PAHO, V5_PAHO], ids=["3.1", "3.1.1", "5"])
def test_wrong_credentials_are_refused(
    running: Stack, account: Account, outsider: Account, version: MQTTProtocolVersion
) -> None:
    wrong = [
        {"token": "0" * 32},
        {"token": "not a token"},
        {"token": account.device_token.lower()},
        {"token": account.api_token},
        {"token": outsider.device_token},
        {"user_id": outsider.user_id},
        {"user_id": "U999999"},
        {"user_id": "admin"},
    ]
    for options in wrong:
        device = Device(running, account, "d", version, **options)  # type: ignore[arg-type]
        assert device.connect() == BAD_PASSWORD, options
        device.close()
    nameless = Device(running, account, "d", version)
    nameless.client.username_pw_set(None)
    assert nameless.connect() == NOT_AUTHORIZED
    nameless.close()


CONNECT_311 = b"\x00\x04MQTT\x04\x02\x00\x1e\x00\x01d"
# what is sent, and the answer before the connection is closed
BEFORE_CONNECT: list[tuple[bytes, bytes]] = [
    (b"\x10\x0d\x00\x04MQTT\x06\x02\x00\x1e\x00\x01d", b"\x20\x02\x00\x01"),  # level 6
    (b"\x10\x0d\x00\x04MQTT\x02\x02\x00\x1e\x00\x01d", b"\x20\x02\x00\x01"),  # level 2
    (b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x1e\x00\x00", b"\x20\x02\x00\x02"),  # no client id
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600), b""),  # TLS
    (b"\x30\x03\x00\x01x", b""),  # PUBLISH first
    (b"\x10\x0d\x00\x04MQTT\x04\x03\x00\x1e\x00\x01d", b""),  # reserved flag
    (b"\x10\xff\xff\xff\xff\x01", b""),  # length of five bytes
    (bytes(range(256)) * 40, b""),
]


def test_what_is_no_connect_is_closed(running: Stack, neighbour: Neighbour) -> None:
    for data, answer in BEFORE_CONNECT:
        neighbour.goes_on()
        with socket.create_connection((HOST, running.mqtt), 60) as client:
            client.sendall(data)
            received = b""
            while chunk := client.recv(100):
                received += chunk
        assert received == answer, data


def test_malformed_packets_end_their_connection_only(
    running: Stack, account: Account, neighbour: Neighbour
) -> None:
    token = account.device_token.encode()
    topic = b"\x00\x2b" + token + b"/json/neigh"
    cases: list[tuple[bytes, int]] = [
        (b"\x36\x02\x00\x00", 0x81),  # QoS 3
        (b"\x32\x30" + topic + b"\x00\x00\x00", 0x82),  # packet identifier 0
        (b"\x30\x05\x00\x02\xff\xfe\x00", 0x81),  # not UTF-8
        (b"\x30\x05\x00\x02a#\x00", 0x90),  # a wildcard
        (b"\x30\x09\x00\x00\x03\x23\x00\x07\x00\x00\x00", 0x94),  # an alias that was never given
        (b"\x82\x03\x00\x01\x00", 0x82),  # SUBSCRIBE without a filter
        (b"\x80\x00", 0x81),  # SUBSCRIBE with wrong flags
        (b"\x20\x03\x00\x00\x00", 0x82),  # CONNACK from a client
        (b"\x00\x00", 0x81),  # no such type
        (b"\x30\xff\xff\xff\xff\x01", 0x81),  # length of five bytes
    ]
    for number, (data, reason) in enumerate(cases):
        neighbour.goes_on()
        for version in (V311, V5):
            with Raw(running.mqtt, version) as client:
                client.open(connect_packet(account, f"bad{number}", version))
                client.send(data)
                if version == V5:
                    assert client.receive() == Disconnect(reason, {}), data
                assert client.receive() is None, data


@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
def test_a_second_connect_is_an_error(running: Stack, account: Account, version: Version) -> None:
    with Raw(running.mqtt, version) as client:
        client.open(connect_packet(account, "twice", version))
        client.send(connect_packet(account, "twice", version))
        assert version == V311 or client.receive() == Disconnect(0x82, {})
        assert client.receive() is None


def test_truncated_packets_and_broken_connections(
    running: Stack, account: Account, neighbour: Neighbour
) -> None:
    whole = b"\x10" + bytes([len(CONNECT_311)]) + CONNECT_311
    for length in range(1, len(whole)):
        with socket.create_connection((HOST, running.mqtt), 60) as client:
            client.sendall(whole[:length])
    neighbour.goes_on()
    for port in (running.ws, running.tls, running.wss):
        with socket.create_connection((HOST, port), 60) as client:
            client.sendall(b"\x10\x00nonsense\r\n\r\n")
            client.settimeout(60)
            while client.recv(1000):
                pass
    neighbour.goes_on()


def test_a_client_that_never_reads(running: Stack, account: Account, neighbour: Neighbour) -> None:
    with (
        Raw(running.mqtt) as deaf,
        Device(running, account, "listener") as listener,
        Device(running, account, "sender") as sender,
    ):
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.open(connect_packet(account, "deaf"))
        wanted = Subscription(f"{account.device_token}/big/subscribe", 1, False, False, 0)
        deaf.send(Subscribe(1, [wanted], {}))
        assert listener.subscribe("big/subscribe") == [1]
        for number in range(25):
            assert sender.publish("big/subscribe", b"%0200000d" % number) == 0
            neighbour.goes_on()
        listener.payloads(25)
        deaf.send(b"\xc0\x00" * 1000)
        neighbour.goes_on()
