"""HTTPS with the certificate of all listeners, renewed while it is used."""

import contextlib
import itertools
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from raw_http import TIMER, connection_line
from stack import Stack, answers, wait_until
from support import Account

from thingscale.web import tcp

pytestmark = pytest.mark.e2e


def make_pair(folder: Path, name: str) -> tuple[Path, Path]:
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj"
    files = ["-keyout", str(key), "-out", str(cert), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), f"/CN={name}", *files], check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certificates")
    for source, name in zip(make_pair(made, "first"), ("used.crt", "used.key"), strict=True):
        shutil.copy(source, made / name)
    return made


@pytest.fixture(scope="module")
def _secure(django_db_setup: None, folder: Path) -> Iterator[Stack]:
    running = Stack(
        THINGSCALE_TLS_CERT=str(folder / "used.crt"),
        THINGSCALE_TLS_KEY=str(folder / "used.key"),
        THINGSCALE_CONNECT_SECONDS="600",
    )
    yield running
    running.stop()


@pytest.fixture
def secure(_secure: Stack, account: Account) -> Stack:
    account.device("d1")
    _secure.ensure("web", "ingest")
    wait_until(lambda: all(map(answers, (_secure.https, _secure.tls, _secure.wss))), 60, "the TLS listeners")
    return _secure


def served(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=60)


def test_h17_https_serves_and_follows_its_files_under_load(
    secure: Stack, folder: Path, account: Account
) -> None:
    url = f"https://127.0.0.1:{secure.https}"
    headers = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1"}
    trusted = folder / "all.crt"
    new_cert, new_key = make_pair(folder, "second")
    trusted.write_bytes((folder / "first.crt").read_bytes() + new_cert.read_bytes())
    kept = requests.Session()
    assert kept.post(f"{url}/post_v2/", b"1", headers=headers, timeout=60, verify=str(trusted)).text == "OK"
    assert kept.get(f"{url}/signin/", timeout=60, verify=str(trusted)).status_code == 200
    failures: list[Exception] = []
    done = threading.Event()

    def handshakes() -> None:
        while not done.is_set():
            try:
                requests.get(f"{url}/healthz", timeout=60, verify=str(trusted)).raise_for_status()
            except requests.RequestException as error:
                failures.append(error)

    loads = [threading.Thread(target=handshakes) for _ in range(3)]
    for load in loads:
        load.start()
    with contextlib.ExitStack() as at_end:
        for load in loads:
            at_end.callback(load.join, 30)
        at_end.callback(done.set)
        shutil.copy(new_cert, folder / "used.crt")  # without its key
        wait_until(lambda: "can't be used" in secure.log("web"), 60, "half a renewal to be seen")
        assert served(secure.https) == (folder / "first.crt").read_text()
        shutil.copy(new_key, folder / "used.key")
        ports = (secure.https, secure.tls, secure.wss)
        wait_until(lambda: {served(port) for port in ports} == {new_cert.read_text()}, 60, "the renewal")
        assert (
            kept.post(f"{url}/post_v2/", b"2", headers=headers, timeout=60, verify=str(trusted)).text == "OK"
        )
    assert failures == []


VERSIONS = {"1.1": "TLSv1_1", "1.2": "TLSv1_2", "1.3": "TLSv1_3"}


def handshake(port: int, version: str) -> str:
    """Of a client that speaks this version only: what was agreed on, or OpenSSL's name of the alert."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion[VERSIONS[version]]
    context.minimum_version = context.maximum_version
    context.set_ciphers("ALL:@SECLEVEL=0")  # else the client's own OpenSSL refuses an old version
    with socket.create_connection(("127.0.0.1", port), 60) as plain:
        try:
            with context.wrap_socket(plain) as client:
                return str(client.version())
        except ssl.SSLError as error:
            return str(error.reason)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.skipif(not ssl.HAS_TLSv1_1, reason="this OpenSSL speaks no TLS 1.1")
def test_h17_no_listener_takes_a_tls_older_than_1_2(secure: Stack) -> None:
    """The client is told so by an alert: RFC 8446 6.2, protocol_version."""
    for port in (secure.https, secure.tls, secure.wss):
        assert handshake(port, "1.1") == "TLSV1_ALERT_PROTOCOL_VERSION"
        assert [handshake(port, version) for version in ("1.2", "1.3")] == ["TLSv1.2", "TLSv1.3"]


NO_TLS = (b"\x10\x00nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\n\r\n", bytes(20))


def test_who_speaks_no_tls_is_not_kept_until_the_handshakes_limit(secure: Stack) -> None:
    for port, sent in itertools.product((secure.https, secure.tls, secure.wss), NO_TLS):
        with socket.create_connection(("127.0.0.1", port), 60) as client:
            client.sendall(sent)
            assert client.recv(1000) == b""


def keep_alive_timer(server: int, client: int) -> float | None:
    """Seconds until the kernel asks whether the client is still there; None if it never will. Of the
    server's end of a connection, by the two ports."""
    kind, ticks = connection_line(server, client)[TIMER].split(":")
    return int(ticks, 16) / 100 if kind == "02" else None  # 02: keep-alive; always 100 a second


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux")
def test_h6_every_listener_asks_silent_peers_whether_they_are_there(secure: Stack) -> None:
    context = ssl._create_unverified_context()
    for name in ("http", "https", "mqtt", "ws", "tls", "wss"):
        port = getattr(secure, name)
        with socket.create_connection(("127.0.0.1", port), 60) as plain, contextlib.ExitStack() as held:
            own = plain.getsockname()[1]
            if name in {"https", "tls", "wss"}:
                held.enter_context(context.wrap_socket(plain))
            wait_until(lambda port=port, own=own: keep_alive_timer(port, own), 60, f"{name}'s timer")  # type: ignore[misc]
            assert (keep_alive_timer(port, own) or 0) <= tcp.IDLE_SECONDS + 1


MOST = 4
STRANGER, NEIGHBOUR = "127.0.0.9", "127.0.0.10"


@pytest.fixture
def strict(secure: Stack) -> Iterator[Stack]:
    """A web process that takes few connections of one address."""
    running = secure.another(
        THINGSCALE_HTTP_CONNECTIONS_PER_ADDRESS=str(MOST), THINGSCALE_HTTP_HEAD_SECONDS="3"
    )
    running.ensure("web")
    wait_until(lambda: answers(running.https), 30, "the TLS listener")
    yield running
    running.stop()


def dial(running: Stack, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.https), 20, source_address=(source, 0))


def is_served(running: Stack, source: str) -> bool:
    """Whether a request over TLS is answered, and not closed in its handshake."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with dial(running, source) as plain:
        try:
            with context.wrap_socket(plain) as client:
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return client.recv(100).startswith(b"HTTP/1.1 200")
        except OSError:
            return False


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00", b"\x16"], ids=["silence", "half", "byte"])
def test_who_begins_no_handshake_is_counted_by_address(strict: Stack, sent: bytes) -> None:
    """As connections are that have made theirs; they may take 3 seconds."""
    silent = [dial(strict, STRANGER) for _ in range(MOST)]
    try:
        for each in silent:
            each.sendall(sent)
        wait_until(lambda: not is_served(strict, STRANGER), 10, "one too many to be refused")
        assert is_served(strict, NEIGHBOUR)
        silent.pop().close()
        wait_until(lambda: is_served(strict, STRANGER), 10, "the place of one that has gone to be free")
        wait_until(
            lambda: is_served(strict, STRANGER) and not any(map(open_, silent)), 20, "their time to be up"
        )
    finally:
        for each in silent:
            each.close()


def open_(connection: socket.socket) -> bool:
    """The server has not closed it."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_connections_in_and_behind_their_handshake_count_together(strict: Stack) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.ExitStack() as ended:
        for _ in range(MOST // 2):
            ended.enter_context(context.wrap_socket(ended.enter_context(dial(strict, STRANGER))))
            ended.enter_context(dial(strict, STRANGER))
        wait_until(lambda: not is_served(strict, STRANGER), 10, "one too many to be refused")
        assert is_served(strict, NEIGHBOUR)
    wait_until(lambda: is_served(strict, STRANGER), 10, "their places to be free")
