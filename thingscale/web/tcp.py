"""TCP keep-alive, and addresses, for all listeners, HTTP and MQTT."""

import asyncio
import contextlib
import ipaddress
import socket
from typing import Any

from thingscale.lib import env

IDLE_SECONDS = 60  # of silence before the first probe
PROBE_SECONDS = 15
PROBES = 4  # without an answer end the connection

_OPTIONS = [
    (socket.IPPROTO_TCP, number, value)
    for name, value in {
        "TCP_KEEPIDLE": IDLE_SECONDS,
        "TCP_KEEPINTVL": PROBE_SECONDS,
        "TCP_KEEPCNT": PROBES,
    }.items()
    if (number := getattr(socket, name, None)) is not None  # not every system has all of them
]


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """So that a peer that vanished is noticed, such as a device without power."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    with contextlib.suppress(OSError):  # the peer has gone already, which the transport will report
        set_keep_alive(connection)


def keep_accepted_alive(server: asyncio.Server) -> None:
    """For all connections that the server accepts: they inherit it from the listening socket."""
    for listening in server.sockets:
        set_keep_alive(listening)


def set_keep_alive(connection: Any) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in _OPTIONS:
        connection.setsockopt(*option)


def counted_address(host: str) -> str:
    """The address under which a connection is counted. IPv6 networks of 64 bits count as one: any customer
    gets one."""
    if ":" in host:
        address = ipaddress.IPv6Address(host.partition("%")[0])
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return address.packed[:8].hex()
    return host


class Proxies:
    """Trusted addresses and networks, separated by commas; `*` is any. uvicorn reads them the same way."""

    def __init__(self, text: str) -> None:
        parts = [part.strip() for part in text.split(",")]
        self._any = "*" in parts
        networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for part in parts:
            with contextlib.suppress(ValueError):  # the path of a socket, which has no address
                networks.append(ipaddress.ip_network(part))
        self._networks = tuple(networks)

    def __contains__(self, host: str) -> bool:
        return self._any or env.is_in(host, self._networks)
