"""What every listener of ours, HTTP or MQTT, asks of TCP."""

import asyncio
import contextlib
import ipaddress
import socket
from typing import Any

from thingscale.lib import env

IDLE_SECONDS = 60  # of silence, before the other side is asked whether it is still there
PROBE_SECONDS = 15
PROBES = 4  # without an answer: then the connection is over

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
    """A peer that vanished without a word (a device without power, a NAT that forgot it) is noticed."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    with contextlib.suppress(OSError):  # it has gone already, and the transport will say so
        set_keep_alive(connection)


def keep_accepted_alive(server: asyncio.Server) -> None:
    """The same for all that it accepts: connections inherit it from the socket that listens."""
    for listening in server.sockets:
        set_keep_alive(listening)


def set_keep_alive(connection: Any) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in _OPTIONS:
        connection.setsockopt(*option)


def counted_address(host: str) -> str:
    """Under which a connection is counted: an IPv6 network of 64 bits as one, which any customer gets."""
    if ":" in host:
        address = ipaddress.IPv6Address(host.partition("%")[0])
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return address.packed[:8].hex()
    return host


class Proxies:
    """Addresses and networks that are trusted, separated by commas; `*` is any. As uvicorn reads them."""

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
