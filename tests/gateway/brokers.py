"""The brokers that the conformance tests run against: mosquitto, to check the tests, and the platform."""

import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from client import Client, Endpoint
from mosquitto import MOSQUITTO
from stack import Stack, answers, free_port, wait_until
from support import Account

from ingest.mqtt.packets import V5, V311, Version

DEVICE = "conform"  # its tags are the topics below `Broker.data`
LASTING = 600  # seconds that a durable session of MQTT 5 lasts here
MOSQUITTO_CONFIG = """
per_listener_settings false
allow_anonymous false
password_file {folder}/passwords
persistence true
persistence_location {folder}/
set_tcp_nodelay true
max_packet_size 2000000
listener {port} 127.0.0.1
listener {websocket_port} 127.0.0.1
protocol websockets
"""


class Server(ABC):
    """A running broker. A client may publish and subscribe below `prefix`, and may not at `forbidden`."""

    name: str
    prefix: str
    forbidden: str
    endpoint: Endpoint
    websocket_port: int

    @abstractmethod
    def restart(self) -> None:
        """Ends it as an operator does, and starts it again."""

    @abstractmethod
    def stop(self) -> None: ...


class Mosquitto(Server):
    name = "mosquitto"
    prefix = ""
    forbidden = "$SYS/conformance"

    def __init__(self) -> None:
        assert MOSQUITTO
        self._folder = Path(tempfile.mkdtemp(prefix="thingscale-mosquitto-"))
        self._folder.chmod(0o777)  # started by root, it takes the user `mosquitto`
        port, self.websocket_port = free_port(), free_port()
        self.endpoint = Endpoint(port, "tester", b"secret")
        passwords = self._folder / "passwords"
        subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "tester", "secret"], check=True)
        passwords.chmod(0o644)
        config = MOSQUITTO_CONFIG.format(folder=self._folder, port=port, websocket_port=self.websocket_port)
        (self._folder / "mosquitto.conf").write_text(config)
        self._start()

    def restart(self) -> None:
        self._end()
        self._start()

    def stop(self) -> None:
        self._end()
        shutil.rmtree(self._folder)

    def _start(self) -> None:
        assert MOSQUITTO
        with (self._folder / "log").open("ab") as log:
            command = [MOSQUITTO, "-c", str(self._folder / "mosquitto.conf")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(lambda: answers(self.endpoint.port) and answers(self.websocket_port), 60, "mosquitto")

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(60)


class Platform(Server):
    """Our own; `account` has the device `DEVICE`, mapped to a channel."""

    name = "thingscale"
    forbidden = f"{'0' * 32}/conformance"

    def __init__(self, stack: Stack, account: Account) -> None:
        self._stack = stack
        account.device(DEVICE)
        stack.ensure("ingest")
        self.prefix = f"{account.device_token}/"
        self.endpoint = Endpoint(stack.mqtt, account.user_id, account.device_token.encode())
        self.websocket_port = stack.ws

    def restart(self) -> None:
        self._stack.kill("ingest", signal.SIGTERM)
        self._stack.ensure("ingest")

    def stop(self) -> None:
        """Others may need it."""


class Broker:
    """A server as one test sees it: with topics, filters and client ids of its own."""

    def __init__(self, server: Server, unique: str) -> None:
        self.server = server
        self.unique = unique
        self._clients: list[Client] = []

    def topic(self, number: int = 1) -> str:
        """Messages on it are only passed on, whatever they contain."""
        return f"{self.server.prefix}{self.unique}-{number}/subscribe"

    def errors(self, number: int = 1) -> str:
        """Beside `topic`, in the same level."""
        return f"{self.server.prefix}{self.unique}-{number}/errors"

    def data(self, levels: str = "") -> str:
        """Messages on it are stored, too, so they have to be JSON."""
        topic = f"{self.server.prefix}json/{DEVICE}/{self.unique}"
        return f"{topic}/{levels}" if levels else topic

    def client(self, name: str = "", version: Version = V311) -> Client:
        """Not connected yet. Without a name its id is empty: the server chooses one."""
        client_id = f"{self.unique}{name}" if name or version < V311 else ""
        self._clients.append(Client(self.server.endpoint, client_id, version))
        return self._clients[-1]

    def connect(self, name: str = "", version: Version = V311, **options: Any) -> Client:
        client = self.client(name, version)
        client.connect(**options)
        return client

    def durable(self, name: str, version: Version = V311) -> Client:
        """With a session that outlives the connection; connected."""
        client = self.client(name, version)
        begin(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.vanish()


def begin(client: Client, **properties: Any) -> None:
    """Connects to the durable session of that client id, which has to be new."""
    _connect_durable(client, False, properties)


def resume(client: Client, **properties: Any) -> None:
    """Connects to the durable session of that client id, which has to be there."""
    _connect_durable(client, True, properties)


def _connect_durable(client: Client, present: bool, properties: dict[str, Any]) -> None:
    """MQTT 3.1 does not tell whether there was one."""
    expiry = {0x11: LASTING} if client.version == V5 else {}
    answer = client.connect(clean=False, properties=expiry | properties.get("properties", {}))
    assert client.version < V311 or answer.session_present is present, answer
