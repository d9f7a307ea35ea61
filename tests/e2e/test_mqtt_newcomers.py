"""Connections that have not signed in, by address: how many may be open, and how many sign-ins may fail."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
from mqtt_clients import certificate
from stack import Stack, free_port, wait_until
from support import Account
from test_metrics import figures
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from ingest.mqtt.codec import FrameReader, decode, encode
from ingest.mqtt.packets import V5, V31, V311, ConnAck, Connect, Version

pytestmark = pytest.mark.e2e
MOST, FAILURES, SECONDS = 8, 5, 60.0
QUIET_SECONDS = 0.5  # in which nothing comes to who is not refused
BAD, TOO_FAST = 0x86, 0x9F
WRONG = b"0" * 32
_hosts = count(2)


@pytest.fixture
def host() -> str:
    """An address of this machine that is no proxy which is trusted, and that no other test has used."""
    return f"127.0.7.{next(_hosts)}"


def neighbour(host: str) -> str:
    return host.replace("127.0.7.", "127.0.8.")


@pytest.fixture(scope="module")
def _strict(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = make(tmp_path_factory.mktemp("tls"), MOST, FAILURES)
    yield made
    made.stop()


@pytest.fixture
def strict(_strict: Stack, transactional_db: None) -> Stack:
    _strict.ensure("ingest")
    return _strict


def make(folder: Path, most: int, failures: int) -> Stack:
    return Stack(
        THINGSCALE_CONNECTING_PER_ADDRESS=str(most),
        THINGSCALE_FAILED_SIGN_INS=str(failures),
        THINGSCALE_CONNECT_SECONDS="600",
        THINGSCALE_METRICS_PORT=str(free_port()),
        **certificate(folder),
    )


class Peer:
    """One connection, from an address of its own choice, through any door. No thread reads it: one that still
    did when it is closed would read from the next connection that gets its number."""

    def __init__(self, running: Stack, door: str, host: str, port: int = 0) -> None:
        port = port or {"tcp": running.mqtt, "ws": running.ws, "tls": running.tls, "wss": running.wss}[door]
        self.socket = socket.create_connection(("127.0.0.1", port), SECONDS, (host, 0))
        self._frames = FrameReader(2**20)
        self._websocket: ClientProtocol | None = None
        try:
            if door in {"tls", "wss"}:
                context = ssl.create_default_context(cafile=running.environment["THINGSCALE_TLS_CERT"])
                self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
            if door in {"ws", "wss"}:
                protocol = ClientProtocol(parse_uri(f"{door}://127.0.0.1:{port}/mqtt"))
                protocol.send_request(protocol.connect())
                self.socket.sendall(b"".join(protocol.data_to_send()))
                while protocol.state is State.CONNECTING:
                    protocol.receive_data(self.socket.recv(65536))
                assert isinstance(protocol.events_received()[0], Response)
                self._websocket = protocol
        except BaseException:
            self.socket.close()
            raise

    def send(self, data: bytes) -> None:
        if self._websocket:
            self._websocket.send_binary(data)
            data = b"".join(self._websocket.data_to_send())
        self.socket.sendall(data)

    def read(self, seconds: float = SECONDS) -> bytes:
        """What comes next; empty: it was closed. Raises TimeoutError."""
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            return b""
        if not self._websocket or not data:
            return data
        self._websocket.receive_data(data)
        events = self._websocket.events_received()
        return b"".join(e.data for e in events if isinstance(e, Frame) and e.opcode is Opcode.BINARY)

    def sign_in(self, packet: Connect) -> int | None:
        """The answer's code; None: none came before the end."""
        self.send(encode(packet, packet.version))
        while data := self.read():
            for first, body in self._frames.feed(data):
                answer = decode(first, body, packet.version)
                assert isinstance(answer, ConnAck)
                return answer.code
        return None

    def close(self) -> None:
        self.socket.close()


@contextmanager
def peer(running: Stack, door: str, host: str, port: int = 0) -> Iterator[Peer]:
    made = Peer(running, door, host, port)
    try:
        yield made
    finally:
        made.close()


def refused_at_once(running: Stack, door: str, host: str) -> bool:
    """Before it has said anything in MQTT."""
    plain = {"ws": "tcp", "wss": "tls"}.get(door, door)
    port = {"tcp": running.mqtt, "ws": running.ws, "tls": running.tls, "wss": running.wss}[door]
    try:
        with peer(running, plain, host, port) as one:
            return one.read(QUIET_SECONDS) == b""
    except TimeoutError:
        return False
    except OSError:  # while TLS began
        return True


def packet(
    account: Account, name: str, version: Version = V5, token: bytes | None = None, user: str = ""
) -> Connect:
    password = account.device_token.encode() if token is None else token
    return Connect(version, name, True, 60, user or account.user_id, password, None, {})


@pytest.mark.parametrize("door", ["tcp", "ws", "tls", "wss"])
def test_an_address_has_a_number_of_connections_that_have_not_signed_in(
    strict: Stack, account: Account, host: str, door: str
) -> None:
    """One more is closed at once, and no other address notices. Who signs in, or goes, makes room."""
    with ExitStack() as opened:
        silent = [opened.enter_context(peer(strict, door, host)) for _ in range(MOST)]
        assert refused_at_once(strict, door, host)
        assert not refused_at_once(strict, door, neighbour(host))
        assert silent[0].sign_in(packet(account, f"signed-in-{door}")) == 0
        silent.append(opened.enter_context(peer(strict, door, host)))
        assert refused_at_once(strict, door, host)
        silent[1].close()
        wait_until(lambda: not refused_at_once(strict, door, host), what="room for another one")
        assert silent[3].sign_in(packet(account, f"later-{door}")) == 0


@pytest.mark.parametrize("door", ["tls", "wss"])
def test_handshakes_that_do_not_come_count_too(strict: Stack, account: Account, host: str, door: str) -> None:
    """And those that fail no longer than they last."""
    port = {"tls": strict.tls, "wss": strict.wss}[door]
    no_tls, half = b"\x10\x0c\0\x04MQTT", b"\x16\x03\x01\0\x05\x01\0\0\x01\0"
    for rubbish in (b"", half, no_tls):
        for _ in range(2 * MOST):
            with socket.create_connection(("127.0.0.1", port), SECONDS, (host, 0)) as one:
                one.sendall(rubbish)
                if rubbish == no_tls:
                    with suppress(ConnectionResetError):
                        while one.recv(100):
                            pass
        wait_until(lambda: not refused_at_once(strict, door, host), what="room")
    with ExitStack() as opened:
        silent = [opened.enter_context(peer(strict, "tcp", host, port)) for _ in range(MOST)]
        assert refused_at_once(strict, door, host)
        assert not refused_at_once(strict, door, neighbour(host))
        silent[0].close()
        wait_until(lambda: not refused_at_once(strict, door, host), what="room for another one")
    with peer(strict, door, host) as one:
        assert one.sign_in(packet(account, f"after-{door}")) == 0


def test_what_was_refused_counts_until_it_is_closed(strict: Stack, account: Account, host: str) -> None:
    """Else a peer that never closes would have as many as it likes, for a while each."""
    with ExitStack() as opened:
        for _ in range(MOST):
            one = opened.enter_context(peer(strict, "tcp", host))
            assert one.sign_in(packet(account, "x", token=WRONG)) in {BAD, TOO_FAST}
        assert refused_at_once(strict, "tcp", host)
        wait_until(lambda: not refused_at_once(strict, "tcp", host), what="the server to cut them off")


def test_a_proxy_that_is_trusted_speaks_for_many(strict: Stack, account: Account) -> None:
    """Neither its connections are counted, nor what fails."""
    with ExitStack() as opened:
        clients = [opened.enter_context(peer(strict, "tcp", "127.0.0.1")) for _ in range(3 * FAILURES)]
        codes = {client.sign_in(packet(account, "x", token=WRONG)) for client in clients}
    assert codes == {BAD}


# What fails

Fail = Callable[[Peer, Account], object]


def said(data: bytes) -> Fail:
    def fail(one: Peer, account: Account) -> None:
        one.send(data)
        one.read()

    return fail


KINDS: dict[str, Fail] = {
    "a wrong token": lambda one, account: one.sign_in(packet(account, "x", token=WRONG)),
    "a token of no form": lambda one, account: one.sign_in(packet(account, "x", token=b"\xff")),
    "a wrong user": lambda one, account: one.sign_in(packet(account, "x", user="U999999")),
    "no user": lambda one, account: one.sign_in(Connect(V5, "x", True, 60, None, None, None, {})),
    "a long client id": lambda one, account: one.sign_in(packet(account, "x" * 300)),
    "an unknown version": said(b"\x10\x0c\0\x04MQTT\x09\x02\0\0\0\0"),
    "no CONNECT": said(b"\xc0\0"),
    "no MQTT": said(b"GET / HTTP/1.1\r\n\r\n"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_who_fails_too_often_is_refused_before_the_database_is_asked(
    strict: Stack, account: Account, outsider: Account, host: str, kind: str
) -> None:
    """Also with a good token, unless the gateway has it in memory: devices in order that share the address
    with others stay."""
    other = neighbour(host)
    with peer(strict, "tcp", other) as known:
        assert known.sign_in(packet(account, "known")) == 0
    for _ in range(FAILURES):
        with peer(strict, "tcp", host) as one:
            KINDS[kind](one, account)
    for version, code in ((V5, TOO_FAST), (V311, 3), (V31, 3)):
        with peer(strict, "tcp", host) as one:
            assert one.sign_in(packet(outsider, "good", version)) == code
            assert one.read() == b""
        with peer(strict, "tcp", host) as one:
            assert one.sign_in(packet(account, "bad", version, WRONG)) == code
    with peer(strict, "tcp", host) as one:
        assert one.sign_in(packet(account, "known")) == 0
    with peer(strict, "tcp", other) as one:
        assert one.sign_in(packet(outsider, "good")) == 0


@pytest.mark.parametrize("door", ["ws", "tls", "wss"])
def test_what_fails_at_one_door_counts_at_each(strict: Stack, account: Account, host: str, door: str) -> None:
    for turn in range(FAILURES):
        with peer(strict, (door, "tcp")[turn % 2], host) as one:
            assert one.sign_in(packet(account, "x", token=WRONG)) == BAD
    with peer(strict, door, host) as one:
        assert one.sign_in(packet(account, "x", token=WRONG)) == TOO_FAST


def test_what_a_quota_refuses_is_no_failure(strict: Stack, account: Account, host: str) -> None:
    account.user.max_connections = 0
    account.user.save()
    for _ in range(2 * FAILURES):
        with peer(strict, "tcp", host) as one:
            assert one.sign_in(packet(account, "x")) == 0x97


def test_refusals_are_counted_and_said_once_a_minute(strict: Stack, account: Account, host: str) -> None:
    metrics = int(strict.environment["THINGSCALE_METRICS_PORT"])
    name = "thingscale_connections_refused_total"
    before = figures(metrics)
    with ExitStack() as opened:
        for _ in range(MOST):
            opened.enter_context(peer(strict, "tcp", host))
        for _ in range(10):
            assert refused_at_once(strict, "tcp", host)
    after = figures(metrics)
    assert after[f"{name}:connecting"] - before[f"{name}:connecting"] == 10
    assert after[f"{name}:max_connections"] == 0
    assert f"{name}:failed_sign_ins" in after
    assert 1 <= strict.log("ingest").count("MQTT connections are refused: ") <= 3  # since the module began


def test_0_is_no_limit(
    strict: Stack, transactional_db: None, account: Account, outsider: Account, host: str, tmp_path: Path
) -> None:
    lenient = make(tmp_path, 0, 0)
    lenient.ensure("ingest")
    try:
        with ExitStack() as opened:
            silent = [opened.enter_context(peer(lenient, "tcp", host)) for _ in range(4 * FAILURES)]
            for one in silent:
                assert one.sign_in(packet(account, "x", token=WRONG)) == BAD
            assert opened.enter_context(peer(lenient, "tcp", host)).sign_in(packet(outsider, "good")) == 0
    finally:
        lenient.stop()
