"""A pooler in transaction mode, as pgbouncer with pool_mode = transaction and a pool of one: all clients
share one session of the server, each for the length of a transaction."""

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENDS = {b"Q", b"S"}  # of what a client asks at once


def startup(user: str, database: str) -> bytes:
    words = b"\0".join(word.encode() for word in ("user", user, "database", database)) + b"\0\0"
    return struct.pack("!ii", len(words) + 8, 196_608) + words


def read_message(stream: socket.SocketIO) -> tuple[bytes, bytes]:
    """Its kind, and all of it."""
    kind = stream.read(1) or b""
    size = stream.read(4) or b""
    if not size:
        raise EOFError
    return kind, kind + size + (stream.read(struct.unpack("!i", size)[0] - 4) or b"")


@contextmanager
def transaction_pooler(path: str, user: str, database: str) -> Iterator[int]:
    """For the server at that Unix socket. Its port."""
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    server.sendall(startup(user, database))
    answers = server.makefile("rb")
    alone = threading.Lock()

    def until_ready() -> bytes:
        told = b""
        while True:
            kind, message = read_message(answers)  # type: ignore[arg-type]
            told += message
            if kind == b"Z":
                return told

    greeting = until_ready()

    class Client(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            stream = self.request.makefile("rb")
            size, version = struct.unpack("!ii", stream.read(8))
            stream.read(size - 8)
            self.request.sendall(greeting if version == 196_608 else b"N")
            asked = b""
            while True:
                try:
                    kind, message = read_message(stream)
                except EOFError:
                    return
                if kind == b"X":
                    return
                asked += message
                if kind in ENDS:
                    with alone:
                        server.sendall(asked)
                        self.request.sendall(until_ready())
                    asked = b""

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Client) as pooler:
        pooler.daemon_threads = True
        threading.Thread(target=pooler.serve_forever, daemon=True).start()
        yield pooler.server_address[1]
        pooler.shutdown()
    answers.close()
    server.close()
