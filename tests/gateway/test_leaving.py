"""A gateway that is to stop leaves its clients to another one, in small steps; without another one it ends at
once. What its clients have sent is stored, and answered, before."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from client import Client, Endpoint
from stack import Stack, answers, wait_until
from support import Account

from ingest.mqtt.packets import PUBACK, V5, V311, Ack, Disconnect, Packet, Publish, Version
from ingest.service import connect

pytestmark = pytest.mark.e2e
SHUTTING_DOWN, ANOTHER_SERVER = 0x8B, 0x9C
EXPIRY, REFERENCE, MAXIMUM_PACKET_SIZE = 0x11, 0x1C, 0x27
REFERENCES = "mqtt.example.com [2001:db8::7]:1883"
CROWD = 400
SECONDS = 30

Start = Callable[..., Stack]


@pytest.fixture
def start(no_shared_stack: None) -> Iterator[Start]:
    """Gateways, each with ports of its own, on one database."""
    with ExitStack() as ended:

        def begin(**environment: str) -> Stack:
            stack = Stack(**environment)
            ended.callback(stack.stop)
            stack.ensure("ingest")
            return stack

        yield begin


def connected(stack: Stack, account: Account, name: str, version: Version = V5, **options: Any) -> Client:
    client = Client(Endpoint(stack.mqtt, account.user_id, account.device_token.encode()), name, version)
    client.connect(**options)
    return client


def ask_to_stop(stack: Stack) -> "subprocess.Popen[bytes]":
    process = stack.processes["ingest"]
    process.send_signal(signal.SIGTERM)
    return process


def rest(client: Client) -> list[Packet]:
    """All that it is sent until its connection ends."""
    found: list[Packet] = []
    while packet := client.receive(SECONDS):
        found.append(packet)
    client.vanish()
    return found


class Crowd:
    """Clients that do nothing, and how each of them ends."""

    def __init__(self, stack: Stack, account: Account) -> None:
        versions = (V311, V5)
        self.clients = [connected(stack, account, f"c-{n}", versions[n % 2]) for n in range(CROWD)]
        self.ended_at: list[float] = []
        self.codes: set[tuple[Version, int | None]] = set()
        self._threads = [threading.Thread(target=self._wait, args=[each]) for each in self.clients]
        for thread in self._threads:
            thread.start()

    def _wait(self, client: Client) -> None:
        last = [packet.code for packet in rest(client) if isinstance(packet, Disconnect)]
        self.codes.add((client.version, last[0] if last else None))
        self.ended_at.append(time.monotonic())

    def wait(self) -> None:
        for thread in self._threads:
            thread.join(SECONDS)
        assert len(self.ended_at) == CROWD


def test_clients_leave_in_steps_and_nobody_comes_in_meanwhile(start: Start, account: Account) -> None:
    going = start(THINGSCALE_HANDOVER_SECONDS="3", THINGSCALE_SERVER_REFERENCE=REFERENCES)
    staying = start()
    crowd = Crowd(going, account)
    process = ask_to_stop(going)
    wait_until(lambda: not answers(going.mqtt) and not answers(going.ws), SECONDS, "its ports to be closed")
    assert len(crowd.ended_at) < CROWD / 2
    crowd.wait()
    assert process.wait(SECONDS) == 0
    assert crowd.codes == {(V311, None), (V5, ANOTHER_SERVER)}
    assert max(crowd.ended_at) - min(crowd.ended_at) > 1
    connected(staying, account, "c-0").disconnect()


def test_who_leaves_is_told_where_to_go_if_that_is_not_too_long(start: Start, account: Account) -> None:
    going = start(THINGSCALE_SERVER_REFERENCE=REFERENCES)
    start()
    clients = [
        connected(going, account, "told"),
        connected(going, account, "small", properties={MAXIMUM_PACKET_SIZE: 20}),
    ]
    ask_to_stop(going)
    assert [rest(client) for client in clients] == [
        [Disconnect(ANOTHER_SERVER, {REFERENCE: REFERENCES})],
        [Disconnect(ANOTHER_SERVER, {})],
    ]


def test_without_a_server_to_name_it_is_shutting_down(start: Start, account: Account) -> None:
    going = start()
    start()
    client = connected(going, account, "c")
    ask_to_stop(going)
    assert rest(client) == [Disconnect(SHUTTING_DOWN, {})]


def test_a_gateway_alone_ends_at_once(start: Start, account: Account) -> None:
    """So does one whose neighbour has been killed."""
    going, other = (
        start(THINGSCALE_HANDOVER_SECONDS="600", THINGSCALE_SERVER_REFERENCE=REFERENCES) for _ in "12"
    )
    other.kill("ingest")
    crowd = Crowd(going, account)
    began = time.monotonic()
    assert ask_to_stop(going).wait(SECONDS) == 0
    assert time.monotonic() - began < 60
    crowd.wait()
    assert crowd.codes == {(V311, None), (V5, SHUTTING_DOWN)}


def test_gateways_that_all_stop_leave_nobody_to_each_other(start: Start, account: Account) -> None:
    """The first is on its way when the second one is told to stop: nobody has to wait for 600 seconds."""
    first, second = (start(THINGSCALE_HANDOVER_SECONDS="600") for _ in "12")
    crowd = Crowd(first, account)
    ends = [ask_to_stop(first)]
    wait_until(lambda: not answers(first.mqtt), SECONDS, "its ports to be closed")
    ends.append(ask_to_stop(second))
    assert [process.wait(SECONDS) for process in ends] == [0, 0]
    crowd.wait()


def blocked() -> psycopg.Connection:
    """Nothing can be stored until it is closed."""
    connection = connect()
    connection.autocommit = False
    connection.execute("LOCK TABLE datapoint IN SHARE MODE")
    return connection


@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
def test_what_was_taken_is_answered_before_its_client_leaves(
    start: Start, account: Account, version: Version
) -> None:
    """And nothing else is taken: who goes on sending sends that again, to another gateway."""
    account.device("d1")
    going = start()
    start()
    client = connected(going, account, "sends", version)
    idle = connected(going, account, "idle", version)
    topic = f"{account.device_token}/json/d1"
    with blocked():
        client.send(*(Publish(topic, b"%d" % n, 1, False, False, n, {}) for n in range(1, 101)))
        ask_to_stop(going)
        assert [type(packet) for packet in rest(idle)] == ([Disconnect] if version == V5 else [])
        client.send(Publish(topic, b"101", 1, False, False, 101, {}))
    last = rest(client)
    acks = [packet for packet in last if isinstance(packet, Ack)]
    assert acks == [Ack(PUBACK, n, 0, {}) for n in range(1, 101)]
    assert last[100:] == ([Disconnect(SHUTTING_DOWN, {})] if version == V5 else [])
    assert [int(value) for value, _ in account.stored()] == list(range(1, 101))


def test_clients_are_served_until_it_is_their_turn(start: Start, account: Account) -> None:
    """What they publish is stored once and delivered, and what waits in a queue goes with its client."""
    account.device("d1")
    topic = f"{account.device_token}/json/d1"
    lasting: dict[str, Any] = {"clean": False, "properties": {EXPIRY: 600}}
    going = start(THINGSCALE_HANDOVER_SECONDS="3")
    first = connected(going, account, "ear", **lasting)
    first.subscribe(topic, 1)
    staying = start()
    crowd = Crowd(going, account)
    heard: list[int] = []
    last = threading.Event()

    def listen() -> None:
        for number in range(2):
            ear = connected(staying, account, "ear", **lasting) if number else first
            while not last.is_set() and (packet := ear.receive(SECONDS)):
                if isinstance(packet, Publish):
                    ear.accept(packet)
                    heard.append(int(packet.payload))
                    if packet.payload == b"-1":
                        last.set()
            ear.vanish()

    thread = threading.Thread(target=listen)
    thread.start()
    sender = connected(going, account, "sender")
    process = ask_to_stop(going)
    sent = served = 0
    while process.poll() is None:
        message = Publish(topic, b"%d" % sent, 1, False, False, sent + 1, {})
        sender.send(message)
        if isinstance(sender.receive(SECONDS), Ack):
            served += sender.endpoint.port == going.mqtt
        else:
            sender.vanish()
            sender = connected(staying, account, "sender")
            sender.send(message._replace(dup=True))
            sender.expect(Ack)
        sent += 1
        time.sleep(0.01)
    sender.publish(topic, b"-1")
    sender.vanish()
    thread.join(SECONDS)
    crowd.wait()
    assert served
    assert [int(value) for value, _ in account.stored()] == [*range(sent), -1]
    assert sorted(set(heard)) == [-1, *range(sent)]
