"""A web process, started as `manage.py up` starts it, and the processor time that a load takes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from common import ROOT
from database import backends, checkpoint, count
from http_load import Load, Result, drive
from processes import Used, children, running, wait_for

from thingscale.local import config, ports
from thingscale.local.app_processes import web_command

OURS = "thingscale.asgi:application"
BARE = "bare:application"


class Measured(NamedTuple):
    load: Result
    cpu_us: dict[str, float]  # a message, by process


class Web(NamedTuple):
    port: int
    pid: int

    def measure(self, load: Load) -> Measured:
        used = Used(web=[self.pid, *children(self.pid)], backends=backends())
        result = drive(self.port, load)
        return Measured(result, used.us(load.messages) | {"generator": result.generator_us})

    def measure_stored(self, load: Load) -> Measured:
        """And checks that every message is stored, once."""
        checkpoint()
        before = count()
        measured = self.measure(load)
        stored = count() - before
        if stored != load.messages:
            raise SystemExit(f"{load.messages:,} messages were acknowledged and {stored:,} are stored.")
        return measured


@contextmanager
def web(application: str = OURS, **environment: str) -> Iterator[Web]:
    port = ports.free_port()
    command = web_command(replace(config.read(), http_port=port))
    command[command.index(OURS)] = application
    paths = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    with running([*command, "--log-level", "warning"], PYTHONPATH=paths, **environment) as process:
        wait_for(port, process)
        yield Web(port, process.pid)
