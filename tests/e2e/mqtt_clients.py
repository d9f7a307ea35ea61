"""Devices for the acceptance tests: unmodified clients, and a bare socket for what no client would send."""

import ipaddress
import json
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from stack import Stack, answers, wait_until
from support import Account

from ingest.mqtt.codec import FrameReader, decode, encode
from ingest.mqtt.packets import V311, ConnAck, Connect, Packet, Publish, Version

V31, V311_PAHO, V5_PAHO = (
    MQTTProtocolVersion.MQTTv31,
    MQTTProtocolVersion.MQTTv311,
    MQTTProtocolVersion.MQTTv5,
)
HOST = "127.0.0.1"
SECONDS = 60.0
Start = Callable[..., Stack]


# The stack


def gateway(start: Start) -> Stack:
    """Web and ingest with TLS; `start` is the fixture `stack`."""
    running = start("web")
    if "THINGSCALE_TLS_CERT" not in running.environment:
        running.environment |= certificate(running.logs)
        if running.processes.get("ingest"):
            running.kill("ingest")
    start("ingest")
    wait_until(lambda: answers(running.wss), SECONDS, "the last port")
    return running


def certificate(folder: Path) -> dict[str, str]:
    """Writes one for this host; returns the variables that make the gateway use it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "cert.pem", folder / "key.pem"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return {"THINGSCALE_TLS_CERT": str(certificate_file), "THINGSCALE_TLS_KEY": str(key_file)}


def rest(running: Stack, account: Account, path: str, **headers: str) -> str:
    """The text of an answer of /v2."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(
        running.url(f"/v2/{path}"), headers=names | {"X-APITOKEN": account.api_token}
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        text: str = response.read().decode()
        return text


def newest(running: Stack, account: Account, channel: int = 0, count: int = 100) -> list[Any]:
    """(value, tag) of the newest datapoints, as an app reads them."""
    text = rest(running, account, f"stream/{channel}", X_ENDTIME="last", X_PAGELIMIT=str(count))
    return [(row["value"], row["tag"]) for row in json.loads(text)["stream"]]


# paho-mqtt


@dataclass(frozen=True)
class Message:
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class Device:
    """A paho client as a device uses it; every wait has an end, and every answer is kept."""

    def __init__(
        self,
        running: Stack,
        account: Account,
        client_id: str = "",
        version: MQTTProtocolVersion = V311_PAHO,
        *,
        transport: str = "tcp",
        tls: bool = False,
        clean: bool = True,
        expiry: int = 0,
        keepalive: int = 30,
        token: str | None = None,
        user_id: str | None = None,
        manual_ack: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.token = token or account.device_token
        self.messages: list[Message] = []
        self.mids: list[tuple[int, int]] = []  # of deliveries that `manual_ack` leaves unacknowledged
        self.session_present = False
        self.ended: int | None = None  # reason of the connection's end
        self._connack: int | None = None
        self._acked: dict[int, int] = {}
        self._subacks: dict[int, list[int]] = {}
        five = version == V5_PAHO
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if five else clean,
            protocol=version,
            transport=transport,  # type: ignore[arg-type]
            reconnect_on_failure=False,
            manual_ack=manual_ack,
        )
        self.client.username_pw_set(user_id or account.user_id, self.token)
        if tls:
            self.client.tls_set(ca_certs=running.environment["THINGSCALE_TLS_CERT"])
        websocket = transport == "websockets"
        self._port = (
            (running.wss if tls else running.ws) if websocket else running.tls if tls else running.mqtt
        )
        self._keepalive = keepalive
        self._clean = clean
        wanted = ({"SessionExpiryInterval": expiry} if expiry else {}) | (options or {})
        self._properties = properties(PacketTypes.CONNECT, **wanted) if five else None
        self._watch()

    def _watch(self) -> None:
        def on_connect(_client: Any, _data: Any, flags: Any, code: Any, _properties: Any) -> None:
            self.session_present, self._connack = flags.session_present, code.value

        def on_message(_client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
            self.mids.append((message.mid, message.qos))
            self.messages.append(Message(message.topic, bytes(message.payload), message.qos, message.retain))

        def on_publish(_client: Any, _data: Any, mid: int, code: Any, _properties: Any) -> None:
            self._acked[mid] = code.value

        def on_subscribe(_client: Any, _data: Any, mid: int, codes: list[Any], _properties: Any) -> None:
            self._subacks[mid] = [code.value for code in codes]

        def on_disconnect(_client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
            self.ended = code.value

        self.client.on_connect = on_connect
        self.client.on_message = on_message
        self.client.on_publish = on_publish
        self.client.on_subscribe = on_subscribe
        self.client.on_disconnect = on_disconnect

    def will(self, rest: str, payload: bytes, qos: int = 0, retain: bool = False, delay: int = 0) -> Self:
        wanted = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=delay) if delay else None
        self.client.will_set(self.topic(rest), payload, qos, retain, wanted)
        return self

    def connect(self) -> int:
        """The code of CONNACK."""
        self._connack = self.ended = None
        clean_start: Any = self._clean if self._properties else mqtt.MQTT_CLEAN_START_FIRST_ONLY
        self.client.connect(
            HOST, self._port, self._keepalive, clean_start=clean_start, properties=self._properties
        )
        self.client.loop_start()
        wait_until(lambda: self._connack is not None, SECONDS, "CONNACK")
        code: Any = self._connack
        return int(code)

    def __enter__(self) -> Self:
        assert self.connect() == 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def topic(self, rest: str) -> str:
        return f"{self.token}/{rest}"

    def publish(self, rest: str, payload: bytes, qos: int = 1, retain: bool = False, **options: Any) -> int:
        """Waits for the acknowledgement; returns its reason code."""
        return self.publish_to(self.topic(rest), payload, qos, retain, **options)

    def publish_to(self, topic: str, payload: bytes, qos: int, retain: bool = False, **options: Any) -> int:
        sent = properties(PacketTypes.PUBLISH, **options) if options else None
        mid = self.client.publish(topic, payload, qos, retain, sent).mid
        wait_until(lambda: mid in self._acked, SECONDS, f"the acknowledgement of a publish to {topic[33:]}")
        return self._acked.pop(mid)

    def subscribe(self, *rests: str, qos: int = 1) -> list[int]:
        """Codes of SUBACK."""
        return self.subscribe_to([self.topic(rest) for rest in rests], qos)

    def subscribe_to(self, filters: Iterable[str], qos: int = 1) -> list[int]:
        mid = self.client.subscribe([(name, qos) for name in filters])[1]
        assert mid is not None
        wait_until(lambda: mid in self._subacks, SECONDS, "SUBACK")
        return self._subacks.pop(mid)

    def payloads(self, count: int, seconds: float = SECONDS) -> list[bytes]:
        """Waits for that many deliveries; returns all there are, sorted."""
        wait_until(lambda: len(self.messages) >= count, seconds, f"{count} deliveries; {self.messages}")
        return sorted(message.payload for message in self.messages)

    def wait_end(self, seconds: float = SECONDS) -> int:
        """The reason why the server closed the connection."""
        wait_until(lambda: self.ended is not None, seconds, "the connection's end")
        assert self.ended is not None
        return self.ended

    def vanish(self) -> None:
        """The connection breaks, without goodbye."""
        sock: Any = self.client.socket()
        sock.shutdown(socket.SHUT_RDWR)
        self.wait_end()
        self.client.loop_stop()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()  # it leaves the pair that wakes its thread to the garbage collector


def properties(packet_type: int, **values: Any) -> Properties:
    made = Properties(packet_type)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(made, name, value)
    return made


# A bare socket


class Raw:
    """Sends and receives packets or bytes on a TCP connection of its own."""

    def __init__(self, port: int, version: Version = V311) -> None:
        self.version = version
        self.socket = socket.create_connection((HOST, port), SECONDS)
        self._reader = FrameReader(2**20)
        self._frames: list[tuple[int, bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, *packets: Packet | bytes) -> None:
        """In one segment."""
        parts = [p if isinstance(p, bytes) else encode(p, self.version) for p in packets]
        self.socket.sendall(b"".join(parts))

    def receive(self, seconds: float = SECONDS) -> Packet | None:
        """The next packet; None once the server has closed."""
        self.socket.settimeout(seconds)
        while not self._frames:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._frames = self._reader.feed(data)
        first, body = self._frames.pop(0)
        return decode(first, body, self.version)

    def open(self, connect: Connect) -> ConnAck:
        self.send(connect)
        answer = self.receive()
        assert isinstance(answer, ConnAck), answer
        return answer

    def silent(self, seconds: float) -> bool:
        """True if nothing arrives for so long."""
        try:
            packet = self.receive(seconds)
        except TimeoutError:
            return True
        raise AssertionError(f"there is {packet}")


def connect_packet(
    account: Account,
    client_id: str,
    version: Version = V311,
    *,
    clean: bool = True,
    keep_alive: int = 30,
    properties: dict[int, Any] | None = None,
) -> Connect:
    """`properties` by their number in MQTT 5."""
    password = account.device_token.encode()
    return Connect(version, client_id, clean, keep_alive, account.user_id, password, None, properties or {})


def json_publish(
    account: Account, device_id: str, payload: bytes, qos: int = 0, packet_id: int = 0, dup: bool = False
) -> Publish:
    return Publish(f"{account.device_token}/json/{device_id}", payload, qos, False, dup, packet_id, {})


# mosquitto's command line clients


def mosquitto(
    program: str, running: Stack, account: Account, version: str, topic: str, *more: str, tls: bool = False
) -> list[str]:
    """The command."""
    port = running.tls if tls else running.mqtt
    command = [program, "-h", HOST, "-p", str(port), "-V", version, "-u", account.user_id]
    command += ["-P", account.device_token, "-t", f"{account.device_token}/{topic}"]
    if tls:
        command += ["--cafile", running.environment["THINGSCALE_TLS_CERT"]]
    return [*command, *more]


def run(command: list[str], data: bytes = b"") -> bytes:
    done = subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
