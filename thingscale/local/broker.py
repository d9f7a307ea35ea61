"""An MQTT broker that keeps everything in memory, for tests and benchmarks of broker mode."""

import os
import sys
from functools import cached_property
from pathlib import Path

from thingscale.local import bundled_servers, ports
from thingscale.local.child_process import Program
from thingscale.local.home import Home, write_private
from thingscale.local.managed_process import ManagedProcess

RUMQTTD = Path(__file__).with_name("rumqttd.py")
HOST = "127.0.0.1"
MAX_CONNECTIONS = 20_000
SEGMENT_BYTES = 2**20  # a topic filter keeps up to SEGMENTS of these for readers that are slow or away
SEGMENTS = 10
ROUTER = f"""\
id = 0

[router]
id = 0
max_connections = {MAX_CONNECTIONS}
max_outgoing_packet_count = 200
max_segment_size = {SEGMENT_BYTES}
max_segment_count = {SEGMENTS}
"""
LISTENER = """
[{version}.1]
name = "{version}"
listen = "{host}:{port}"
next_connection_delay_ms = 0

[{version}.1.connections]
connection_timeout_ms = 10000
max_payload_size = 1048576
max_inflight_count = 200
dynamic_filters = true
"""


class Broker(ManagedProcess):
    name = "broker"

    def __init__(self, home: Home) -> None:
        self.home = home

    @cached_property
    def ports(self) -> tuple[int, int]:
        """For MQTT 3.1.1 and for MQTT 5: those of the last start, if they are still free."""
        remembered = self.home.remembered_ports()
        chosen: list[int] = []
        for name in ("mqtt", "mqtt5"):
            port = remembered.get(name, 0)
            usable = 0 < port < 2**16 and port not in chosen and ports.bind_error(HOST, port) is None
            chosen.append(port if usable else ports.free_port(frozenset(chosen)))
        self.home.remember_ports(remembered | dict(zip(("mqtt", "mqtt5"), chosen, strict=True)))
        return chosen[0], chosen[1]

    @property
    def url(self) -> str:
        return f"mqtt://{HOST}:{self.ports[0]}"

    @property
    def url5(self) -> str:
        return f"mqtt://{HOST}:{self.ports[1]}"

    def environment(self) -> dict[str, str]:
        return {"MQTT_URL": self.url, "MQTT5_URL": self.url5}

    def program(self) -> Program:
        bundled_servers.check_broker()
        config = self.home.path / "broker.toml"
        listeners = [
            LISTENER.format(version=version, host=HOST, port=port)
            for version, port in zip(("v4", "v5"), self.ports, strict=True)
        ]
        write_private(config, ROUTER + "".join(listeners))
        return Program(
            argv=[sys.executable, "-P", str(RUMQTTD), str(config)],
            log=self.home.logs / "broker.log",
            env={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        )

    def ready(self) -> bool:
        return self.running() and all(ports.answers(HOST, port) for port in self.ports)
