"""Keeps notifications out of the platform's own network (docs/decisions/0038-no-way-inside.md).

Accounts choose where webhooks and contact points lead. A thread that sends one does so within `guarded()`: an
audit hook sees each of its connections where the socket is opened, after names are resolved and whichever
library asks for it, and refuses addresses that are not of the public Internet, unless
THINGSCALE_NOTIFY_NETWORKS lists their network. At the time limit all its connections are cut, so that a
receiver that answers a byte a second holds nobody up.

The platform's own connections to PostgreSQL, Valkey and the mail server are made outside of `guarded()`.
"""

import contextlib
import os
import re
import socket
import sys
import sysconfig
import threading
import time
import unicodedata
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

from thingscale.background.watched import WatchedThread
from thingscale.lib.env import is_in
from thingscale.lib.errors import ContractError

SETTING = "THINGSCALE_NOTIFY_NETWORKS"
NOT_REACHED = f"ThingScale sends nothing to that address: {SETTING} doesn't list its network."
MAX_CONNECTIONS = 20  # of one notification
CUT_AGAIN_SECONDS = 0.1  # a connection may be made just when it is cut
NOTHING_TO_WATCH_SECONDS = 60.0

# Of the IANA registries of special-purpose addresses. `is_private` and `is_global` of `ipaddress` have
# changed their minds in bugfix releases, so this does not ask them.
_NOT_PUBLIC = [
    ip_network(each)
    for each in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; a cloud's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # what a cloud's machines ask about themselves
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "2001::/23",  # Teredo, ORCHID and others of the IETF
        "2001:db8::/32",
        "2002::/16",  # 6to4, which hides an IPv4 address
        "3fff::/20",
        "5f00::/16",
    )
]
_PUBLIC_IPV6 = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
# Modules, and certifi's certificates among them
_READABLE = tuple(
    sysconfig.get_path(each) + os.sep for each in ("stdlib", "platstdlib", "purelib", "platlib")
)


class Refused(PermissionError):
    """What a notification may not do."""


def is_allowed(text: str) -> bool:
    """Whether a notification may go to this address, which has to be written as ordinary digits."""
    if is_in(text, settings.NOTIFY_NETWORKS):
        return True
    try:
        address = ip_address(text)
    except ValueError:  # a name, an IPv6 zone, a number in another form
        return False
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            address = address.ipv4_mapped
        elif address in _NAT64:
            address = IPv4Address(int(address) & 0xFFFFFFFF)
            if is_in(str(address), settings.NOTIFY_NETWORKS):
                return True
        elif address not in _PUBLIC_IPV6:
            return False
    return not any(address in network for network in _NOT_PUBLIC)


def check_url(url: str, field: str = "post_url") -> None:
    """Raises ContractError for what is no http or https URL, and for an address that notifications never go
    to. Of a name it says nothing: what that leads to is seen when it is connected to."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise ContractError("BAD_PARAMETER", _("%(field)s: this is no URL.") % {"field": field}) from None
    if parts.scheme not in {"http", "https"} or not host or re.search(r"[\x00-\x20\\\x7f]", url):
        raise ContractError(
            "BAD_PARAMETER", _("%(field)s: give a URL such as https://example.com/hook.") % {"field": field}
        )
    check_host(host, field)


def check_host(host: str, field: str) -> None:
    """Raises ContractError for an address, in any of its spellings, that notifications never go to."""
    # What browsers and resolvers read as well: full-width digits, the ideographic full stop, a dot at the end
    plain = unicodedata.normalize("NFKC", host).replace("\u3002", ".").lower().rstrip(".")
    address = plain.partition("%")[0]  # without the zone of IPv6
    is_local_name = plain in _LOCAL_NAMES or plain.endswith(".localhost")
    if is_local_name:
        address = "127.0.0.1"
    elif ":" not in plain:
        if not re.fullmatch(r"0x[0-9a-f]*|[0-9]+", plain.rpartition(".")[2]):
            return  # a name
        try:
            address = socket.inet_ntoa(socket.inet_aton(plain))  # 127.1, 0x7f000001, 2130706433, 0177.0.0.1
        except OSError:
            raise ContractError(
                "BAD_PARAMETER", _("%(field)s: %(host)s is no address.") % {"field": field, "host": host}
            ) from None
    if not is_allowed(address):
        raise ContractError(
            "BAD_PARAMETER",
            _(
                "%(field)s: %(host)s is no address in the public Internet. The operator can"
                " allow its network with %(setting)s."
            )
            % {"field": field, "host": host, "setting": SETTING},
        )


class Answer(NamedTuple):
    """The last one of a receiver by HTTP: limited_requests.py notes it."""

    status: int
    text: str
    retry_after: str | None


class Guard:
    """What one notification does."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.refused = False
        self.late = False
        self.answer: Answer | None = None
        self._connections: list[socket.socket] = []

    @property
    def left(self) -> float:
        """Seconds until all is cut."""
        return max(0.1, self.deadline - time.monotonic())

    def connecting(self, connection: socket.socket, address: Any) -> None:
        """Raises Refused or TimeoutError. `address` is what connect() was given: resolved by our libraries,
        or a name, which the system has resolved in a way that can't be seen here."""
        if time.monotonic() >= self.deadline:
            self.late = True
            raise TimeoutError("There is no time left to connect.")
        host = address[0] if isinstance(address, tuple) and address else None
        by_ip = connection.family in {socket.AF_INET, socket.AF_INET6} and isinstance(host, str)
        if not by_ip or not is_allowed(str(host)) or len(self._connections) >= MAX_CONNECTIONS:
            self.refused = True
            raise Refused(NOT_REACHED)
        # A descriptor of its own: TLS detaches the socket that it begins with.
        self._connections.append(socket.socket(fileno=os.dup(connection.fileno())))

    def refuse(self) -> None:
        self.refused = True
        raise Refused("Notifications do nothing but connect to their receiver.")

    def cut(self) -> None:
        """Ends all waiting for the receiver."""
        self.late = True
        for connection in self._connections[:]:
            with contextlib.suppress(OSError):  # not connected yet, or not any more
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


class _Local(threading.local):
    guard: Guard | None = None


_this_thread = _Local()
_CONNECTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_REFUSED = frozenset(
    {
        *("socket.bind", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork"),
        *("os.forkpty", "os.startfile", "pty.spawn", "ctypes.dlopen"),
    }
)
_start_thread = threading.Thread.start


def _start_unguarded(thread: threading.Thread) -> None:
    """Another thread would be out of sight. Python 3.11 has no audit event for it."""
    if _this_thread.guard:
        _this_thread.guard.refuse()
    _start_thread(thread)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    guard = _this_thread.guard
    if guard is None:
        return
    if event in _CONNECTS:
        guard.connecting(arguments[0], arguments[1])
    elif event in _REFUSED:
        guard.refuse()
    elif event == "open":  # as templates and keys that a contact point's URL names
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR) or set(mode or "") & set("wax+")
        if not isinstance(path, int) and (
            writes or not os.path.abspath(os.fsdecode(path)).startswith(_READABLE)
        ):
            guard.refuse()


class _Watchdog:
    """Cuts what takes too long."""

    def __init__(self) -> None:
        self._guards: set[Guard] = set()
        self._changed = threading.Condition()
        self._thread: WatchedThread | None = None

    def add(self, guard: Guard) -> None:
        with self._changed:
            if self._thread is None:
                sys.addaudithook(_audit)  # for good: it can't be taken away
                threading.Thread.start = _start_unguarded  # type: ignore[method-assign, assignment]
                self._thread = WatchedThread("notification watchdog", self._run)
                self._thread.start()
            self._guards.add(guard)
            self._changed.notify()

    def remove(self, guard: Guard) -> None:
        with self._changed:
            self._guards.discard(guard)

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                wait = NOTHING_TO_WATCH_SECONDS
                for guard in self._guards:
                    if guard.deadline <= now:
                        guard.cut()
                        wait = CUT_AGAIN_SECONDS
                    else:
                        wait = min(wait, guard.deadline - now)
                self._changed.wait(wait)


_watchdog = _Watchdog()


def current() -> Guard | None:
    """This thread's."""
    return _this_thread.guard


@contextlib.contextmanager
def guarded(seconds: float = 10) -> Iterator[Guard]:
    """Within it this thread connects to receivers of notifications only, reads no files but those of Python,
    starts nothing, and waits for nobody longer than so many seconds."""
    guard = Guard(seconds)
    _watchdog.add(guard)
    _this_thread.guard = guard
    try:
        yield guard
    finally:
        _this_thread.guard = None
        _watchdog.remove(guard)
        guard.close()
