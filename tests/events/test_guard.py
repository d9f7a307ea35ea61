"""Nothing that an account chooses as its receiver leads inside."""

import os
import socket
import subprocess
import threading
import time
from ipaddress import ip_network
from typing import Any

import pytest
from pytest_django import Settings
from receivers import answer, receiver
from stack import wait_until

from thingscale.background import watched
from thingscale.checks import check_settings
from thingscale.events import guard
from thingscale.events.guard import check_url, guarded, is_allowed
from thingscale.events.transports import Result, http
from thingscale.lib.errors import ContractError

LITERAL = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "127.0.0.1.",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "0x7F.0x00.0x00.0x01",
    "0",
    "0.0.0.0",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
    "127\u30020\u30020\u30021",
    "\u2460\u2461\u2466.0.0.1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "ip6-localhost",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:10.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::1]",
    "[2002:7f00:1::1]",
    "[2001:0:7f00:1::1]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fd00::1]",
    "[fd00:ec2::254]",
    "[fc00::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "4294967297",
    "127.0.0.1.1",
    "user@127.0.0.1",
    "example.com:80@127.0.0.1",
    "example.com@127.1:8080",
]
PUBLIC = [
    "example.com",
    "8.8.8.8",
    "134744072",
    "[2606:4700::1111]",
    "[::ffff:8.8.8.8]",
    "[64:ff9b::8.8.8.8]",
]
PUBLIC += ["127.0.0.1.example.com", "10.example.com", "127.0.0.1@example.com", "11.0.0.1", "172.32.0.1"]


@pytest.mark.parametrize("host", LITERAL)
def test_an_address_that_leads_inside_is_refused_when_the_event_is_made(host: str) -> None:
    with pytest.raises(ContractError) as raised:
        check_url(f"http://{host}/hook")
    assert raised.value.code == "BAD_PARAMETER"
    assert "THINGSCALE_NOTIFY_NETWORKS" in raised.value.detail or "no address" in raised.value.detail


@pytest.mark.parametrize("host", PUBLIC)
def test_other_addresses_and_names_are_taken(host: str) -> None:
    check_url(f"https://{host}/hook")


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.com", "ftp://example.com/", "http://", "http:///path", "file:///etc/passwd"),
        *("http://example.com\\@127.0.0.1/", "http://exa mple.com/", "http://example.com/\r\nX: y"),
        *("http://example.com:99999/", "http://[::1/", "http://[127.0.0.1]/", "gopher://example.com/"),
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ContractError):
        check_url(url)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0x7f000001", "localhost", "[::ffff:127.0.0.1]"])
def test_the_operator_can_allow_a_network(host: str, settings: Settings) -> None:
    settings.NOTIFY_NETWORKS = (ip_network("127.0.0.0/8"),)
    check_url(f"http://{host}/hook")


def numeric(host: str) -> str | None:
    try:
        return str(
            socket.getaddrinfo(host.strip("[]").replace("%25", "%"), 80, type=socket.SOCK_STREAM)[0][4][0]
        )
    except (OSError, UnicodeError):
        return None


@pytest.mark.parametrize("host", [host for host in LITERAL if "@" not in host])
def test_it_is_refused_where_the_socket_is_opened(host: str) -> None:
    """As by an event that an earlier release made, whatever the resolver makes of its address."""
    address = numeric(host) or host
    assert not is_allowed(address)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with guarded() as sending, socket.socket(family) as connection:
        connection.settimeout(2)
        with pytest.raises(OSError):  # noqa: PT011
            connection.connect((address, 9))
    assert sending.refused or numeric(host) is None  # a name that nobody resolves


def send(url: str) -> Any:
    return http.send(url, b"{}", "secret", "id")


@pytest.mark.parametrize(
    "form", ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "localhost", "0.0.0.0", "0"]
)
def test_a_webhook_does_not_reach_this_machine(form: str) -> None:
    with receiver() as inside:
        outcome = send(f"http://{form}:{inside.port}/")
    assert outcome.result is Result.FAILED
    assert not inside.requests
    assert "THINGSCALE_NOTIFY_NETWORKS" in outcome.answer
    assert "127.0.0.1" not in outcome.answer  # what a name of the inside leads to is nobody's business


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """The next answers of the resolver, for the name rebinding.example."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if host != "rebinding.example":
            return real(host, port, *arguments, **options)
        address = addresses[min(len(asked), len(addresses) - 1)]
        asked.append(address)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def test_a_name_that_leads_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1")
    with receiver() as inside:
        check_url(f"http://rebinding.example:{inside.port}/")
        assert send(f"http://rebinding.example:{inside.port}/").result is Result.FAILED
    assert not inside.requests


def test_a_name_that_changes_its_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looked first saw a public address; the connection gets another answer."""
    asked = resolve_to(monkeypatch, "8.8.8.8", "127.0.0.1")
    assert socket.getaddrinfo("rebinding.example", 80)[0][4][0] == "8.8.8.8"
    with receiver() as inside:
        assert send(f"http://rebinding.example:{inside.port}/").result is Result.FAILED
    assert asked == ["8.8.8.8", "127.0.0.1"]
    assert not inside.requests


def test_a_redirect_is_not_followed(settings: Settings) -> None:
    settings.NOTIFY_NETWORKS = (ip_network("127.0.0.1/32"),)
    with receiver() as inside:
        to = f"HTTP/1.1 302 Found\r\nLocation: {inside.url}\r\nContent-Length: 0\r\n\r\n".encode()
        with receiver(answer(to)) as outside:
            outcome = send(outside.url)
    assert outcome.result is Result.FAILED
    assert "redirect" in outcome.answer
    assert len(outside.requests) == 1
    assert not inside.requests


def test_with_the_setting_it_is_reached(settings: Settings) -> None:
    settings.NOTIFY_NETWORKS = (ip_network("127.0.0.0/8"),)
    with receiver() as inside:
        for form in ("127.0.0.1", "localhost", "0x7f000001"):
            assert send(f"http://{form}:{inside.port}/").result is Result.SENT
    assert len(inside.requests) == 3


def test_neither_proxy_nor_netrc_of_the_environment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    settings.NOTIFY_NETWORKS = (ip_network("127.0.0.0/8"),)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login operator password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with receiver() as proxy, receiver() as wanted:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert send(wanted.url).result is Result.SENT
    assert not proxy.requests
    assert "authorization" not in wanted.requests[0].headers


def test_a_guarded_thread_does_nothing_else(tmp_path: Any) -> None:
    (tmp_path / "key").write_text("secret")
    kinds = [(socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_DGRAM)]
    kinds += [(socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM)]
    unix, log, stream, datagram = sockets = [socket.socket(*kind) for kind in kinds]
    with socket.create_server(("127.0.0.1", 0)) as listening, guarded():
        address = listening.getsockname()
        attempts: list[Any] = [
            lambda: unix.connect("/run/dbus/system_bus_socket"),
            lambda: log.sendto(b"x", "/dev/log"),
            lambda: datagram.sendto(b"x", ("127.0.0.1", 514)),
            lambda: datagram.sendmsg([b"x"], [], 0, ("127.0.0.1", 514)),
            lambda: stream.connect(("localhost", address[1])),
            lambda: stream.connect_ex(address),
            lambda: stream.bind(("127.0.0.1", 0)),
            lambda: subprocess.run(["true"], check=False),
            lambda: os.system("true"),
            os.fork,
            lambda: threading.Thread(target=print).start(),
            (tmp_path / "key").read_text,
            lambda: (tmp_path / "new").write_text("x"),
        ]
        refused = []
        for number, attempt in enumerate(attempts):
            try:
                attempt()
            except guard.Refused:
                refused.append(number)
    for each in sockets:
        each.close()
    assert refused == list(range(len(attempts)))
    assert (tmp_path / "key").read_text() == "secret"


def test_other_threads_and_what_comes_after_are_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = threading.Event()
        go = threading.Event()

        def connect() -> None:
            go.wait(5)
            socket.create_connection(listening.getsockname(), 2).close()
            done.set()

        other = threading.Thread(target=connect)
        other.start()
        with guarded():
            go.set()
            assert done.wait(5)
        other.join()
        socket.create_connection(listening.getsockname(), 2).close()


def test_at_the_limit_what_waits_is_cut(settings: Settings) -> None:
    settings.NOTIFY_NETWORKS = (ip_network("127.0.0.0/8"),)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        began = time.monotonic()
        with guarded(0.5) as sending:
            waiting = socket.create_connection(listening.getsockname(), 30)
            assert waiting.recv(1) == b""
            with pytest.raises(TimeoutError):
                socket.create_connection(listening.getsockname(), 30)
        waiting.close()
    assert sending.late
    assert time.monotonic() - began < 3


def test_a_setting_that_allows_all_is_warned_of(settings: Settings) -> None:
    def ids() -> list[str | None]:
        return [message.id for message in check_settings(None)]

    assert "thingscale.W008" not in ids()
    settings.NOTIFY_NETWORKS = (ip_network("10.0.0.0/8"), ip_network("::/0"))
    assert "thingscale.W008" in ids()


def test_the_watchdog_begins_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.NOTIFY_NETWORKS = (ip_network("127.0.0.0/8"),)
    monkeypatch.setattr(watched, "AGAIN_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listening, guarded(0.2) as sending:
        waiting = socket.create_connection(listening.getsockname(), 10)
        with monkeypatch.context() as patch:
            patch.setattr(guard.Guard, "cut", lambda _guard: 1 / 0)
            wait_until(lambda: "notification watchdog" in watched.failing())
        assert waiting.recv(1) == b""
        waiting.close()
    assert sending.late
