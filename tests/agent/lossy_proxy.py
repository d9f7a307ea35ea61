"""Between the agent and the platform, to lose what comes back."""

import contextlib
import socket
import threading


class Proxy:
    """Hands connections on to a port. While it is deaf, what comes back gets lost."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        self.deaf = False
        self.lost = 0  # pieces of answers, while it was deaf
        self.listening = socket.create_server(("127.0.0.1", port))
        self.port = self.listening.getsockname()[1]
        self.clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for each in self.clients:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listening.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target), 60)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                self.clients += (client, server)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=[source, target], daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.deaf and target in self.clients[::2]:
                    self.lost += 1
                else:
                    target.sendall(data)
        with source, target, contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
