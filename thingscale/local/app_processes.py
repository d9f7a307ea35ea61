"""The platform's own processes, web, ingest and celery: their commands, and how each is found to be ready."""

import http.client
import sys
import time
from abc import abstractmethod
from collections.abc import Mapping

from thingscale.lib import env
from thingscale.local import ports
from thingscale.local.child_process import Program
from thingscale.local.config import PROJECT, Config
from thingscale.local.home import Home
from thingscale.local.managed_process import ManagedProcess

GRACE_SECONDS = 12  # for the answers that the web process still sends when it stops
DRAINS = {"THINGSCALE_HANDOVER_SECONDS": 5, "THINGSCALE_DRAIN_SECONDS": 10}  # with the defaults
# A process that lives for so long counts as ready, since the log level may hide the line that says so.
QUIET_SECONDS = 15


def manage(*arguments: str) -> list[str]:
    return [sys.executable, str(PROJECT / "manage.py"), *arguments]


def web_command(config: Config) -> list[str]:
    uvicorn = [sys.executable, "-m", "uvicorn", "thingscale.asgi:application"]
    return [
        *uvicorn,
        "--host",
        config.bind,
        "--port",
        str(config.http_port),
        "--no-access-log",
        "--http",
        "thingscale.web.http_protocol:HttpProtocol",
        "--timeout-graceful-shutdown",
        str(GRACE_SECONDS),
        "--lifespan",
        "on",
    ]


def celery_command() -> list[str]:
    worker = [sys.executable, "-m", "celery", "-A", "thingscale", "worker", "--with-schedule"]
    size = ["--pool", "threads", "--concurrency", "2"]  # one for maintenance, see thingscale/celery.py
    alone = ["--without-gossip", "--without-mingle"]
    return [*worker, *size, *alone, "--loglevel", "INFO"]


class AppProcess(ManagedProcess):
    def __init__(self, config: Config, home: Home, environment: Mapping[str, str]) -> None:
        self.config = config
        self.home = home
        self.environment = environment

    @abstractmethod
    def command(self) -> list[str]: ...

    def program(self) -> Program:
        log = self.home.logs / f"{self.name}.log"
        return Program(self.command(), log=log, env=self.environment, cwd=PROJECT)


class WebProcess(AppProcess):
    name = "web"
    stop_limit = 40.0  # it drains

    def command(self) -> list[str]:
        return web_command(self.config)

    def ready(self) -> bool:
        connection = http.client.HTTPConnection(self.config.host, self.config.http_port, timeout=2)
        try:
            connection.connect()
            if self.config.proxied:
                connection.sock.sendall(b"PROXY UNKNOWN\r\n")
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class IngestProcess(AppProcess):
    """A gateway. Several of them share their ports: the kernel gives each connection to one of them."""

    group = "gateways"  # stopped together, or each would hand its clients over to the next

    def __init__(self, config: Config, home: Home, environment: Mapping[str, str], number: int = 1) -> None:
        super().__init__(config, home, environment)
        self.stop_limit = 20.0 + sum(env.integer(name, default) for name, default in DRAINS.items())
        self.name = "ingest" if number == 1 else f"ingest-{number}"
        if config.workers > 1:
            metrics = env.integer("THINGSCALE_METRICS_PORT", 0, 0, 65535)
            own = {"THINGSCALE_METRICS_PORT": str(metrics + number - 1)} if metrics else {}
            self.environment = {**environment, "THINGSCALE_SHARE_PORTS": "1", **own}

    def command(self) -> list[str]:
        return manage("ingest")

    def launch(self) -> None:
        self.launched = time.monotonic()
        super().launch()

    def ready(self) -> bool:
        """Whether it answers on its MQTT ports. If these are all off, it only stores what comes by other
        ways."""
        listening = [port for name, port in self.config.listens.items() if "_MQTT_" in name]
        if not self.running() or not all(ports.answers(self.config.host, port) for port in listening):
            return False
        if self.config.workers == 1:
            return True
        # The gateway that answers may be another one.
        quiet = time.monotonic() - self.launched > QUIET_SECONDS
        return quiet or self.output().count(" Listening on ") >= len(listening)


class CeleryProcess(AppProcess):
    name = "celery"

    def command(self) -> list[str]:
        return celery_command()

    def launch(self) -> None:
        self.launched = time.monotonic()
        super().launch()

    def ready(self) -> bool:
        quiet = time.monotonic() - self.launched > QUIET_SECONDS
        return self.running() and (quiet or " ready." in self.output())
