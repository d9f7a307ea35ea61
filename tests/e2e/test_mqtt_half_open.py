"""Connections that never become clients, by the thousand."""

import resource
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mqtt_clients import HOST, Device, certificate
from stack import Stack, answers, wait_until
from support import Account

pytestmark = pytest.mark.e2e
CONNECTIONS = 10_000  # fewer where the system allows fewer open files
LEFT_FREE = 500  # open files, for everything else
CONNECT_SECONDS = 2


@pytest.fixture(scope="module")
def own(django_db_setup: None) -> Iterator[Stack]:
    """A gateway with a short time limit for CONNECT."""
    made = Stack(THINGSCALE_CONNECT_SECONDS=str(CONNECT_SECONDS))
    made.environment |= certificate(made.logs)
    made.ensure("ingest")
    wait_until(lambda: answers(made.wss), what="the last port")
    yield made
    made.stop()


@pytest.fixture
def open_files() -> Iterator[int]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def wait_all_closed(sockets: list[socket.socket], seconds: float) -> None:
    """By the other side."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    waiting = {each.fileno(): each for each in sockets}
    for number in waiting:
        poll.register(number, select.POLLIN)
    while waiting:
        assert time.monotonic() < deadline, f"{len(waiting)} connections are still open"
        for number, _ in poll.poll(200):
            if closed(waiting[number]):
                poll.unregister(number)
                del waiting[number]


def closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True


def test_half_open_connections_disturb_nobody_and_are_closed(
    own: Stack, transactional_db: None, account: Account, open_files: int
) -> None:
    account.device("d1")
    sockets: list[socket.socket] = []
    count = min(CONNECTIONS, open_files - LEFT_FREE)
    most = 0.0
    with Device(own, account, "neighbour") as neighbour:
        for number in range(count):
            sockets.append(socket.create_connection((HOST, own.mqtt), 60))
            if number % 2:
                sockets[-1].sendall(b"\x10\x20\x00\x04MQ")  # the beginning of a CONNECT
            if number % (count // 20) == 0:
                begun = own.cpu_seconds("ingest")
                assert neighbour.publish("json/d1", b"%d" % number) == 0
                most = max(most, own.cpu_seconds("ingest") - begun)
        ports = (own.ws, own.tls, own.wss)
        sockets += [socket.create_connection((HOST, port), 60) for port in ports]
        wait_all_closed(sockets, 60)
        assert neighbour.publish("json/d1", b'"after"') == 0
        assert neighbour.ended is None
    for each in sockets:
        each.close()
    assert most < 0.5, "so long the gateway computed for others before it answered"
    assert len(account.stored()) == len(range(0, count, count // 20)) + 1


def test_what_is_closed_is_given_back(own: Stack, transactional_db: None) -> None:
    """A peer that is told to go, and does neither read nor close, keeps no open file of ours for long."""

    folder = Path(f"/proc/{own.processes['ingest'].pid}/fd")

    def open_sockets() -> int:
        return sum("socket:" in link for link in map(link_of, folder.iterdir()))

    count = 200  # more than the process needs for itself
    wait_until(lambda: open_sockets() < count, what="the connections of other tests to end")
    peers = [socket.create_connection((HOST, own.mqtt), 60) for _ in range(count)]
    wait_until(lambda: open_sockets() > count, what="the connections")
    for peer in peers:
        peer.sendall(b"\x30\x00")
    wait_until(lambda: open_sockets() < count, 60, what="their end")
    for peer in peers:
        peer.close()


def link_of(path: Path) -> str:
    try:
        return str(path.readlink())
    except FileNotFoundError:  # closed meanwhile
        return ""
