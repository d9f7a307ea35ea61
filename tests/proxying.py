"""A load balancer for tests: hands connections on, with a PROXY header in front."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple

PROXY = "127.0.0.77"  # of PROXY_NETWORKS; the tests' own clients come from 127.0.0.1
PROXY_NETWORKS = "192.0.2.0/24, 127.0.0.64/26,::1"
SECONDS = 60


class Balanced(NamedTuple):
    """As the stack, where its ports are asked for."""

    http: int
    https: int
    mqtt: int
    ws: int
    tls: int
    wss: int
    environment: dict[str, str]


@contextlib.contextmanager
def balancer(port: int, header: bytes, source: str = PROXY) -> Iterator[int]:
    """The port on which it listens for clients of `port`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def accept() -> None:
            while not ended.is_set():
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=_hand_on, args=[client, port, header, source], daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            ended.set()
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join(SECONDS)


def _hand_on(client: socket.socket, port: int, header: bytes, source: str) -> None:
    with client, socket.create_connection(("127.0.0.1", port), SECONDS, (source, 0)) as server:
        server.settimeout(None)
        server.sendall(header)
        there = threading.Thread(target=_copy, args=[client, server], daemon=True)
        there.start()
        _copy(server, client)
        there.join(SECONDS)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
