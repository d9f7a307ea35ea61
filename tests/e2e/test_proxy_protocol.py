"""Behind a load balancer, MQTT and HTTP know the addresses of its clients, and nobody else can claim one."""

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import raw_http
import requests
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from mqtt_clients import V5_PAHO, Device, certificate
from proxying import PROXY, PROXY_NETWORKS, Balanced, balancer
from raw_http import request
from requests.adapters import HTTPAdapter
from stack import ROOT, Stack, answers, free_port, wait_until
from support import PASSWORD, Account
from websockets.sync.client import connect as open_websocket
from websockets.typing import Origin

from ingest.mqtt.codec import encode
from ingest.mqtt.packets import V311, Connect
from thingscale.accounts.models import Session
from thingscale.devices.models import MqttSession
from thingscale.version import VERSION

pytestmark = pytest.mark.e2e
SECONDS = 60
PASSWORD_HASH = PBKDF2PasswordHasher().encode(PASSWORD, "salt")  # which the web process knows
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LISTENERS = ["mqtt", "ws", "tls", "wss", "http", "https"]


def line(client: str = "203.0.113.9") -> bytes:
    family = "TCP6" if ":" in client else "TCP4"
    return f"PROXY {family} {client} {'::1' if ':' in client else '127.0.0.1'} 56324 1883\r\n".encode()


def binary(client: str = "203.0.113.9", options: bytes = b"") -> bytes:
    address = ip_address(client).packed
    rest = address * 2 + struct.pack(">HH", 56324, 1883) + options
    return SIGNATURE + struct.pack(">BBH", 0x21, 0x11 if len(address) == 4 else 0x21, len(rest)) + rest


LOCAL = SIGNATURE + b"\x20\0\0\0"
BY_TLS = b"\x20\0\5\1\0\0\0\0"


@pytest.fixture(scope="module")
def _behind(django_db_setup: None) -> Iterator[Stack]:
    running = Stack(THINGSCALE_PROXY_NETWORKS=PROXY_NETWORKS)
    running.environment |= certificate(running.logs)
    yield running
    running.stop()


@pytest.fixture
def behind(_behind: Stack, account: Account) -> Stack:
    account.device("d1")
    account.user.password = PASSWORD_HASH
    account.user.save()
    _behind.ensure("web", "ingest")
    wait_until(lambda: all(answers(getattr(_behind, name)) for name in LISTENERS), SECONDS, "all ports")
    return _behind


@contextlib.contextmanager
def balanced(running: Stack, header: bytes) -> Iterator[Balanced]:
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(balancer(getattr(running, name), header)) for name in LISTENERS}
        yield Balanced(environment=running.environment, **ports)


def shown(account: Account, client_id: str) -> str:
    """The address of a client that is connected, where people see it."""
    found = MqttSession.objects.filter(user=account.user, client_id=client_id)
    wait_until(found.exists, SECONDS, "the client to be shown")
    return found.get().ipaddress


@pytest.mark.parametrize("version", [line, binary])
@pytest.mark.parametrize("transport", ["tcp", "websockets"])
@pytest.mark.parametrize("tls", [False, True])
def test_the_address_of_an_mqtt_client_is_its_own(
    behind: Stack, account: Account, version: Callable[[str], bytes], transport: str, tls: bool
) -> None:
    for client, name in (("203.0.113.9", "four"), ("2001:db8::9", "six"), ("::ffff:203.0.113.8", "mapped")):
        with (
            balanced(behind, version(client)) as ports,
            Device(ports, account, name, V5_PAHO, transport=transport, tls=tls) as device,  # type: ignore[arg-type]
        ):
            assert device.publish("json/d1", b"1") in {0, 16}
            assert shown(account, name) == client.removeprefix("::ffff:")
    assert len(account.stored()) == 3


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
def test_a_proxy_that_speaks_for_itself_has_its_own_address(
    behind: Stack, account: Account, header: bytes
) -> None:
    with balanced(behind, header) as ports, Device(ports, account, "own", tls=True):  # type: ignore[arg-type]
        assert shown(account, "own") == PROXY
        assert requests.get(f"http://127.0.0.1:{ports.http}/healthz", timeout=SECONDS).text == f"OK {VERSION}"


class From(HTTPAdapter):
    """Connects from an address."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, source_address=(self._address, 0))


def sign_in(url: str, trusted: str, source: str = "127.0.0.1") -> str:
    """The key of the session."""
    with requests.Session() as browser:
        browser.mount(url, From(source))
        page = browser.get(f"{url}/signin/", timeout=SECONDS, verify=trusted)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token
        form = {"csrfmiddlewaretoken": token[1], "username": "owner@example.com", "password": PASSWORD}
        headers = {"Referer": f"{url}/signin/", "Origin": url}
        asked: dict[str, Any] = {
            "headers": headers,
            "timeout": SECONDS,
            "verify": trusted,
            "allow_redirects": False,
        }
        browser.post(f"{url}/signin/", form, **asked)
        return str(browser.cookies["sessionid"])


@pytest.mark.parametrize("version", [line, binary])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_address_of_a_browser_is_its_own(
    behind: Stack, account: Account, version: Callable[[str], bytes], scheme: str
) -> None:
    for client in ("203.0.113.9", "2001:db8::9"):
        Session.objects.all().delete()
        with balanced(behind, version(client)) as ports:
            sign_in(
                f"{scheme}://127.0.0.1:{getattr(ports, scheme)}", behind.environment["THINGSCALE_TLS_CERT"]
            )
        session = Session.objects.get(user=account.user)
        assert session.ip_address == client


def test_tls_that_ends_at_the_proxy_is_https(behind: Stack, account: Account) -> None:
    """Django compares the Origin of a form with the scheme; a header of the client's own changes nothing."""
    for options, scheme, status in ((BY_TLS, "https", 302), (b"", "http", 302), (b"", "https", 403)):
        with balanced(behind, binary(options=options)) as ports, requests.Session() as browser:
            url = f"http://127.0.0.1:{ports.http}/signin/"
            page = browser.get(url, timeout=SECONDS)
            token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
            assert token
            form = {"csrfmiddlewaretoken": token[1], "username": "owner@example.com", "password": PASSWORD}
            origin = f"{scheme}://127.0.0.1:{ports.http}"
            headers = {"Origin": origin, "Referer": f"{origin}/", "X-Forwarded-Proto": "https"}
            answer = browser.post(url, form, headers=headers, timeout=SECONDS, allow_redirects=False)
            assert answer.status_code == status, (options, scheme)


def test_a_live_page_is_served_behind_a_proxy(behind: Stack, account: Account) -> None:
    with balanced(behind, binary()) as ports:
        origin = Origin(f"http://127.0.0.1:{ports.http}")
        cookie = {"Cookie": f"sessionid={sign_in(origin, behind.environment['THINGSCALE_TLS_CERT'])}"}
        url = f"ws://127.0.0.1:{ports.http}/ws/live/"
        with open_websocket(url, origin=origin, additional_headers=cookie) as page:
            assert json.loads(page.recv(timeout=SECONDS)) == {"type": "ready"}


@pytest.mark.parametrize("header", [line(), binary(), LOCAL])
def test_a_header_may_come_byte_by_byte_and_a_request_with_its_last_byte(
    behind: Stack, account: Account, header: bytes
) -> None:
    device = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1"}
    post = request("POST", "/post_v2/", device, b"1")
    for port, sent, expected in (
        (behind.http, post, b"HTTP/1.1 200"),
        (behind.mqtt, b"\x10\x10\0\4MQTT\4\2\0\x3c\0\4name", b"\x20\2\0\5"),
    ):
        with raw_http.connected(port, PROXY) as client:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for place in range(len(header) - 1):
                client.send(header[place : place + 1])
                time.sleep(0.002)  # so that they are segments; whatever arrives together is right, too
            client.send(header[-1:] + sent)
            assert client.socket.recv(len(expected), socket.MSG_WAITALL) == expected


@pytest.mark.parametrize("header", [line(), binary(), LOCAL])
@pytest.mark.parametrize("name", ["tls", "wss", "https"])
def test_a_handshake_may_begin_in_the_segment_of_the_header(behind: Stack, name: str, header: bytes) -> None:
    context = ssl.create_default_context(cafile=behind.environment["THINGSCALE_TLS_CERT"])
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(coming, going, server_hostname="127.0.0.1")
    with raw_http.connected(getattr(behind, name), PROXY) as connection:
        connection.send(header[:-3])
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        connection.send(header[-3:] + going.read())
        while client.version() is None or going.pending:
            coming.write(connection.socket.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
            connection.send(going.read())
        assert client.version() == "TLSv1.3"


def test_over_ipv6_a_header_is_required_too(behind: Stack, account: Account) -> None:
    running = behind.another(THINGSCALE_BIND="::1")
    greeting = b"\x10\x10\0\4MQTT\4\2\0\x3c\0\4name"
    try:
        running.launch("ingest", ["manage.py", "ingest"])
        wait_until(lambda: running.log("ingest").count("Listening on") == 4, SECONDS, "all ports")
        for port in (running.mqtt, running.ws, running.tls, running.wss):
            with socket.create_connection(("::1", port), SECONDS) as client:
                client.sendall(greeting)
                assert raw_http.Client(client).until_closed() == b""
        with socket.create_connection(("::1", running.mqtt), SECONDS) as client:
            client.sendall(binary("2001:db8::9") + greeting)
            assert client.recv(4) == b"\x20\2\0\5"
    finally:
        running.stop()


@pytest.mark.parametrize("name", LISTENERS)
@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x10\x10\0\4MQTT\4\2\0\x3c\0\4name",
        b"\x16\x03\x01\x02\0\x01",
        b"PROXY TCP4 nowhere 127.0.0.1 1 2\r\n",
        b"PROXY UNKNOWN ".ljust(200, b"x"),
        SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 600,
        SIGNATURE + b"\x21\x11\0\4abcd",
        b"\0" * 70_000,
    ],
    ids=["HTTP", "MQTT", "TLS", "no address", "endless line", "oversize", "too short", "garbage"],
)
def test_what_comes_from_a_proxy_without_a_header_is_closed_at_once(
    behind: Stack, name: str, sent: bytes
) -> None:
    with raw_http.connected(getattr(behind, name), PROXY) as client:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            client.send(sent)
        assert client.until_closed() == b""
        assert time.monotonic() - began < 4  # not only when the time for it is over


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 203", SIGNATURE + b"\x21\x11\0\x0c1234"])
def test_a_header_has_to_come_in_time(behind: Stack, sent: bytes) -> None:
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(raw_http.connected(getattr(behind, name), PROXY)) for name in LISTENERS
        ]
        began = time.monotonic()
        for client in clients:
            client.send(sent)
        for client in clients:
            assert client.until_closed() == b""
        assert 4 < time.monotonic() - began < SECONDS


@pytest.mark.parametrize("header", [line(), binary(), LOCAL])
@pytest.mark.parametrize("name", LISTENERS)
def test_nobody_else_can_claim_an_address(behind: Stack, name: str, header: bytes) -> None:
    """From elsewhere a header is what it looks like: no MQTT, no TLS, and no request."""
    with raw_http.connected(getattr(behind, name)) as client:
        with contextlib.suppress(ConnectionError):
            client.send(header + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        said = client.until_closed()
    if name == "http":
        assert said.startswith(b"HTTP/1.1 400 ")
    else:
        assert b"200 OK" not in said
        assert b"\x20\2\0" not in said


def test_who_comes_from_elsewhere_needs_no_header(behind: Stack, account: Account) -> None:
    with Device(behind, account, "direct", tls=True) as device:
        device.publish("json/d1", b"1")
        assert shown(account, "direct") == "127.0.0.1"
    assert requests.get(behind.url("/healthz"), timeout=SECONDS).text == f"OK {VERSION}"


def test_connections_are_counted_by_client(account: Account, behind: Stack) -> None:
    """One client that opens too many is refused, and another one behind the same proxy is not."""
    running = behind.another(THINGSCALE_HTTP_CONNECTIONS_PER_ADDRESS="3", THINGSCALE_HTTPS_PORT="0")
    healthy = request("GET", "/healthz")
    with contextlib.ExitStack() as stack:
        stack.callback(running.stop)
        running.ensure("web")

        def status(client: str) -> int:
            opened = stack.enter_context(raw_http.connected(running.http, PROXY))
            opened.send(binary(client) + healthy)
            return opened.answer().status

        assert [status("203.0.113.1") for _ in range(4)] == [200, 200, 200, 503]
        assert [status("203.0.113.2") for _ in range(4)] == [200, 200, 200, 503]


HAPROXY = shutil.which("haproxy", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"]))
DEFAULTS = f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    source {PROXY}
"""
LISTEN = """
listen {name}
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{target} {how} check inter 200ms
"""
CLIENT = "127.0.0.200"


@contextlib.contextmanager
def haproxy(running: Stack, how: str, folder: Path) -> Iterator[Balanced]:
    assert HAPROXY
    ports = {name: free_port() for name in LISTENERS}
    listeners = [
        LISTEN.format(name=name, port=port, target=getattr(running, name), how=how)
        for name, port in ports.items()
    ]
    config = folder / "haproxy.cfg"
    config.write_text(DEFAULTS + "".join(listeners))
    process = subprocess.Popen([HAPROXY, "-db", "-q", "-f", str(config)])
    try:
        wait_until(lambda: all(map(answers, ports.values())), SECONDS, "haproxy")
        yield Balanced(environment=running.environment, **ports)
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.mark.skipif(HAPROXY is None, reason="needs haproxy")
@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
def test_haproxy(behind: Stack, account: Account, how: str, tmp_path: Path) -> None:
    """The real one, with its health checks, which say LOCAL or UNKNOWN."""
    context = ssl.create_default_context(cafile=behind.environment["THINGSCALE_TLS_CERT"])
    with haproxy(behind, how, tmp_path) as ports, contextlib.ExitStack() as stack:
        for name, port in (("plain", ports.mqtt), ("secure", ports.tls)):
            opened = stack.enter_context(socket.create_connection(("127.0.0.1", port), SECONDS, (CLIENT, 0)))
            if name == "secure":
                opened = stack.enter_context(context.wrap_socket(opened, server_hostname="127.0.0.1"))
            token = account.device_token.encode()
            opened.sendall(encode(Connect(V311, name, True, 60, account.user_id, token, None, {}), V311))
            assert opened.recv(4) == b"\x20\2\0\0"
            assert shown(account, name) == CLIENT
        for scheme in ("http", "https"):
            Session.objects.all().delete()
            sign_in(
                f"{scheme}://127.0.0.1:{getattr(ports, scheme)}",
                behind.environment["THINGSCALE_TLS_CERT"],
                CLIENT,
            )
            assert Session.objects.get(user=account.user).ip_address == CLIENT


@pytest.mark.skipif(HAPROXY is None, reason="needs haproxy")
def test_the_configuration_in_the_docs_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "several-machines.md").read_text()
    found = re.search(r"### haproxy\n+```text\n(.+?)```", text, re.DOTALL)
    assert found
    (tmp_path / "haproxy.cfg").write_text(found[1])
    command = [HAPROXY or "", "-c", "-f", str(tmp_path / "haproxy.cfg")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
