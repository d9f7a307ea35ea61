"""The servers under test, each with what the driver has to know about it."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Protocol

from client import Client, Endpoint
from mosquitto import MOSQUITTO
from stack import Stack, answers, free_port, wait_until

from ingest.mqtt.codec import encode
from ingest.mqtt.packets import V5, V311, Connect, Publish
from ingest.mqtt.properties import Property
from model import faults
from model.model import OBSERVER, Delivery, Session
from model.steps import CLIENTS, SENTINEL, TOPICS
from thingscale.local import ports

PROBE = "probe/subscribe"


class Server(Protocol):
    processes: int  # that a client may connect to
    notices_after: float  # seconds, at most, that one of them was killed
    credentials: tuple[str | None, bytes | None]
    one_delivery: bool  # to whom several subscriptions of one client match; else one for each
    kill_within_messages: bool  # what is acknowledged survives it
    wills_survive: bool  # with their delay
    wills_end_with_session: bool  # a delayed will is published when its session ends; else it is not tried

    def address(self, process: int) -> tuple[str, int]: ...
    def start(self) -> None: ...
    def kill(self, process: int) -> None: ...
    def stop(self) -> None: ...
    def settle(self) -> None:
        """Until what one process has answered for has reached the others."""

    def forget(self) -> None:
        """All sessions and retained messages."""

    def topic(self, relative: str) -> str: ...
    def filter(self, relative: str) -> str: ...
    def client_id(self, name: str) -> str: ...
    def is_noise(self, topic: str) -> bool:
        """Whether the server publishes there by itself."""

    def may_refuse(self, topic: str, payload: bytes) -> bool: ...
    def tolerates(
        self, kind: str, session: Session, packet: Publish | None, delivery: Delivery | None
    ) -> bool: ...


def below(prefix: str, filter_: str) -> str:
    if filter_.startswith("$share/"):
        _, group, rest = filter_.split("/", 2)
        return f"$share/{group}/{prefix}{rest}"
    return prefix + filter_


CONFIG = """
listener {port} 127.0.0.1
socket_domain ipv4
user root
set_tcp_nodelay true
allow_anonymous true
allow_duplicate_messages true
max_queued_messages 0
persistence true
persistence_location {folder}/
autosave_interval 0
"""


class Mosquitto:
    """With what it does wrong: `faults.MOSQUITTO`."""

    processes = 1
    notices_after = 0.0
    credentials: tuple[str | None, bytes | None] = (None, None)
    one_delivery = False
    kill_within_messages = False  # it acknowledges before it saves
    wills_survive = False
    wills_end_with_session = False  # it keeps a session as long as its delayed will

    def __init__(self) -> None:
        self._port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="thingscale-model-"))
        self._database = self._folder / "mosquitto.db"
        self.start()

    def start(self) -> None:
        assert MOSQUITTO
        config = self._folder / "mosquitto.conf"
        config.write_text(CONFIG.format(port=self._port, folder=self._folder))
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", str(config)], stdout=log, stderr=log)
        wait_until(lambda: answers(self._port), 60, "mosquitto")

    def address(self, _process: int) -> tuple[str, int]:
        return "127.0.0.1", self._port

    def settle(self) -> None:
        """There is one."""

    def kill(self, _process: int) -> None:
        """It saves only when it is asked to: so it is asked to first."""
        before = self._written()
        self._process.send_signal(signal.SIGUSR1)
        wait_until(lambda: self._written() != before, 60, "mosquitto to save")
        self._process.kill()
        self._process.wait(60)

    def _written(self) -> int:
        return os.stat(self._database).st_ino if self._database.exists() else 0

    def forget(self) -> None:
        self._process.kill()
        self._process.wait(60)
        self._database.unlink(missing_ok=True)
        self.start()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(60)
        shutil.rmtree(self._folder)

    def topic(self, relative: str) -> str:
        return "m/" + relative

    def filter(self, relative: str) -> str:
        return below("m/", relative)

    def client_id(self, name: str) -> str:
        return name

    def is_noise(self, _topic: str) -> bool:
        return False

    def may_refuse(self, _topic: str, _payload: bytes) -> bool:
        return False

    def tolerates(
        self, kind: str, session: Session, packet: Publish | None, delivery: Delivery | None
    ) -> bool:
        return faults.tolerates(faults.MOSQUITTO, kind, session, packet, delivery)


class Thingscale:
    """One gateway or several, in front of servers that are running already."""

    one_delivery = True
    kill_within_messages = True
    wills_survive = True
    wills_end_with_session = True

    def __init__(self, stack: Stack, user_id: str, token: str, gateways: int = 1) -> None:
        self._stacks = [stack, *(stack.another() for _ in range(gateways - 1))]
        self.processes = gateways
        self.notices_after = 8.0 if gateways > 1 else 0.0  # presence.DEAD_SECONDS, and a look
        self._prefix = token + "/"
        self._user_id, self._token = user_id, token.encode()
        self.credentials: tuple[str | None, bytes | None] = (user_id, self._token)
        self._run = 0
        self._probes: dict[int, Client] = {}
        self._probed = 0
        self.start()

    def address(self, process: int) -> tuple[str, int]:
        return "127.0.0.1", self._stacks[process].mqtt

    def start(self) -> None:
        for number, stack in enumerate(self._stacks):
            stack.ensure("ingest")
            if len(self._stacks) > 1 and number not in self._probes:
                self._connect_probe(number)

    def _connect_probe(self, number: int) -> None:
        """A client that lasts, in each gateway."""
        probe = Client(Endpoint(self._stacks[number].mqtt, self._user_id, self._token), f"probe-{number}", V5)
        probe.connect(clean=False, properties={Property.SESSION_EXPIRY_INTERVAL: 3600})
        probe.subscribe(self.topic(PROBE), 1)
        self._probes[number] = probe

    def settle(self) -> None:
        """What each has sent is behind what was answered there before; and what each has got is behind what
        is in queues."""
        self._probed += 1
        payload = b"%d" % self._probed
        for probe in self._probes.values():
            assert probe.publish(self.topic(PROBE), payload) == 0
        for probe in self._probes.values():
            missing = len(self._probes)
            while missing:
                missing -= probe.message().payload == payload

    def kill(self, process: int) -> None:
        """It comes back on other ports: somebody else may take these meanwhile."""
        stack = self._stacks[process]
        if process in self._probes:
            self._probes.pop(process).vanish()
        stack.kill("ingest")
        stack.mqtt, stack.ws = ports.free_port(), ports.free_port()

    def forget(self) -> None:
        """Ends the sessions, and with them wills that wait; then clears what is retained. Another run has
        clients and groups of its own all the same."""
        for name in (OBSERVER, *CLIENTS):
            self._connect_clean(self.client_id(name))
        self._run += 1
        clears = [Publish(self.topic(one), b"", 1, True, False, 1, {}) for one in (*TOPICS, SENTINEL)]
        self._connect_clean(f"cleaner-{self._run}", *clears)

    def _connect_clean(self, client_id: str, *publishes: Publish) -> None:
        user, password = self.credentials
        connect = Connect(V311, client_id, True, 60, user, password, None, {})
        with socket.create_connection(self.address(0), 60) as connection:
            connection.sendall(encode(connect, V311) + b"".join(encode(one, V311) for one in publishes))
            left = 4 * (1 + len(publishes))  # a CONNACK and PUBACKs
            while left and (data := connection.recv(left)):
                left -= len(data)

    def stop(self) -> None:
        for probe in self._probes.values():
            probe.vanish()
        for stack in self._stacks:
            stack.stop()

    def topic(self, relative: str) -> str:
        return self._prefix + relative

    def filter(self, relative: str) -> str:
        return below(self._prefix, relative.replace("$share/", f"$share/{self._run}-"))

    def client_id(self, name: str) -> str:
        return f"{name}-{self._run}"

    def is_noise(self, topic: str) -> bool:
        """The reason why it rejects a datapoint; and what `settle` sends."""
        return topic.endswith("/errors") or topic == self.topic(PROBE)

    def may_refuse(self, topic: str, payload: bytes) -> bool:
        """A cleared message is not a datapoint."""
        return not payload and "/json/" in topic

    def tolerates(
        self, _kind: str, _session: Session, _packet: Publish | None, _delivery: Delivery | None
    ) -> bool:
        return False
