"""A web process, started as `manage.py up` starts it, and the processor time that a load takes."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from common import ROOT
from database import count
from django.db import connection
from http_load import Load, Result, drive
from processes import processor_seconds, running, wait_for

from thingscale.local import config, ports
from thingscale.local.stack import web_command

OURS = "thingscale.asgi:application"
BARE = "bare:application"


class Measured(NamedTuple):
    load: Result
    web_us: float  # of processor time, a message
    database_us: float  # of all backends

    @property
    def cpu_us(self) -> Mapping[str, float]:
        return {"web": self.web_us, "backends": self.database_us, "generator": self.load.generator_us}


class Web(NamedTuple):
    port: int
    pid: int

    def measure(self, load: Load) -> Measured:
        before = self._used()
        result = drive(self.port, load)
        web, database = (after - was for after, was in zip(self._used(), before, strict=True))
        return Measured(result, web / load.messages * 1e6, database / load.messages * 1e6)

    def measure_stored(self, load: Load) -> Measured:
        """And checks that every message is stored, once."""
        before = count()
        measured = self.measure(load)
        stored = count() - before
        if stored != load.messages:
            raise SystemExit(f"{load.messages:,} messages were acknowledged and {stored:,} are stored.")
        return measured

    def _used(self) -> tuple[float, float]:
        return processor_seconds(self.pid), sum(map(processor_seconds, _backends()))


def _backends() -> list[int]:
    """PostgreSQL's processes for all but this connection."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in cursor.fetchall()]


@contextmanager
def web(application: str = OURS, **environment: str) -> Iterator[Web]:
    port = ports.free_port()
    command = web_command(replace(config.read(), http_port=port))
    command[command.index(OURS)] = application
    paths = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    with running([*command, "--log-level", "warning"], PYTHONPATH=paths, **environment) as process:
        wait_for(port, process)
        yield Web(port, process.pid)
