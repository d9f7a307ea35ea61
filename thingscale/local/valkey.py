"""The private Valkey: Celery's queue, live updates, rate limits."""

import os
import socket
import time
from functools import cached_property
from pathlib import Path

from thingscale.local import bundled_servers
from thingscale.local.child_process import Program
from thingscale.local.errors import StartError
from thingscale.local.home import Home, make_folder
from thingscale.local.managed_process import ManagedProcess

ORPHAN_SECONDS = 10


class Valkey(ManagedProcess):
    name = "valkey"

    def __init__(self, home: Home) -> None:
        self.home = home

    @cached_property
    def socket(self) -> Path:
        return self.home.sockets() / "valkey.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def environment(self) -> dict[str, str]:
        return {"REDIS_URL": self.url}

    def program(self) -> Program:
        folder = self.home.path / "valkey"
        make_folder(folder)
        # A server whose supervisor was killed may still be ending, and two must not write the same file.
        deadline = time.monotonic() + ORPHAN_SECONDS
        while self.ready():
            if time.monotonic() > deadline:
                raise StartError(f"An earlier Valkey still runs in {self.home.path}.")
            time.sleep(0.1)
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(folder),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "always-show-logo": "no",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return Program(
            argv=[str(bundled_servers.valkey_server()), *words],
            log=self.home.logs / "valkey.log",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
        )

    def ready(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(2)
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(64) == b"+PONG\r\n"
        except OSError:
            return False
