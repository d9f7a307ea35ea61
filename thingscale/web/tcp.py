"""What every listener of ours, HTTP or MQTT, asks of TCP."""

import asyncio
import contextlib
import ipaddress
import socket
from typing import Any

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
        self._any = False
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for part in map(str.strip, text.split(",")):
            self._any |= part == "*"
            with contextlib.suppress(ValueError):  # a path: of a socket, which has no address
                self._networks.append(ipaddress.ip_network(part))

    def __contains__(self, host: str) -> bool:
        if self._any:
            return True
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._networks)
