"""TCP ports: free ones, taken ones, answering ones."""

import errno
import random
import socket

from thingscale.local.errors import StartError

# Below the ports that systems hand to outgoing connections (32768 and up): a client that dials a stopped
# server's port from that range again and again can end up connected to itself and keep the port.
FIRST, LAST = 20_000, 32_000


def free_port(taken: frozenset[int] = frozenset(), host: str = "127.0.0.1") -> int:
    for _ in range(200):
        port = random.randint(FIRST, LAST)  # noqa: S311
        if port not in taken and bind_error(host, port) is None:
            return port
    raise StartError(f"No free TCP port was found on {host}.")


def bind_error(host: str, port: int) -> OSError | None:
    """The error of listening there, or None."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


def check_free(host: str, port: int, variable: str) -> None:
    error = bind_error(host, port)
    if error is None:
        return
    if error.errno == errno.EADDRINUSE:
        raise StartError(
            f"Port {port} on {host} is taken: stop what uses it, or set {variable} to a free port."
        )
    if error.errno == errno.EACCES:
        raise StartError(
            f"Port {port} needs more rights than this user has: set {variable} to one above 1023."
        )
    raise StartError(f"Nothing can listen on {host}: set THINGSCALE_BIND to an address of this machine.")


def answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
