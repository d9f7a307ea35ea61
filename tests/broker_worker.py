"""Brokers of the user's own, and the worker behind them, for test_broker_mode.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import paho.mqtt.client as mqtt
from mosquitto import run_mosquitto
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from stack import Stack, wait_until

from thingscale.local.servers import Servers

V311, V5 = MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5


class Broker(NamedTuple):
    """Ports for MQTT 3.1.1 and for 5."""

    name: str
    port: int
    port5: int


@contextmanager
def mosquitto() -> Iterator[Broker]:
    with run_mosquitto() as port:
        yield Broker("mosquitto", port, port)


@contextmanager
def rumqttd() -> Iterator[Broker]:
    servers = Servers(want={"broker"}, fast=True)
    with servers:
        yield Broker("rumqttd", *servers.broker.ports)


class Worker:
    """`manage.py ingest` in broker mode; `environment` as for the stack."""

    def __init__(
        self,
        broker: Broker,
        client_id: str = "thingscale-ingest-1",
        credentials: str = "",
        **environment: str,
    ) -> None:
        """`credentials`: user name and password, with a colon between them."""
        who = f"{credentials}@" * bool(credentials)
        self._stack = Stack(
            THINGSCALE_INGEST="broker",
            THINGSCALE_BROKER_CLIENT_ID=client_id,
            MQTT_URL=f"mqtt://{who}127.0.0.1:{broker.port}",
            MQTT5_URL=f"mqtt://{who}127.0.0.1:{broker.port5}",
            **environment,
        )

    def start(self) -> None:
        begun = self.log().count("Subscribed at") if self._stack.processes else 0
        process = self._stack.launch("worker", ["manage.py", "ingest"])
        wait_until(
            lambda: self.log().count("Subscribed at") > begun or process.poll() is not None, 30, "the worker"
        )
        assert process.poll() is None, self.log()

    def kill(self) -> None:
        """Harmless where it has ended already."""
        self._stack.kill("worker")

    def stop(self) -> int:
        self._stack.stop()
        return self._stack.processes["worker"].returncode

    def leave(self) -> int:
        """`manage.py ingest --leave` under the same client id; its exit code."""
        return self._stack.launch("worker", ["manage.py", "ingest", "--leave"]).wait(60)

    def log(self) -> str:
        return self._stack.log("worker")


class Device:
    """paho-mqtt, unmodified; `acked` counts what the broker has acknowledged."""

    def __init__(
        self,
        broker: Broker,
        version: MQTTProtocolVersion = V311,
        credentials: tuple[str, str] | None = None,
    ) -> None:
        self.acked = 0
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=version)
        self.client.max_inflight_messages_set(1000)
        self.client.on_publish = self._on_publish
        if credentials:
            self.client.username_pw_set(*credentials)
        self.client.connect("127.0.0.1", broker.port5 if version == V5 else broker.port)
        self.client.loop_start()
        wait_until(self.client.is_connected, 60, "the broker")

    def _on_publish(self, *_: object) -> None:
        self.acked += 1

    def publish(self, topic: str, payload: bytes | str, qos: int = 1) -> None:
        self.client.publish(topic, payload, qos=qos)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
