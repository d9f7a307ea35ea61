"""PostgreSQL's primary is killed under load, and its synchronous standby takes over, while two gateways, a
web process and Celery know both by one DATABASE_URL."""

import asyncio
import logging
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from drill_client import until
from drill_commands import Commands
from drill_load import DEVICES, LONG, Mix
from drill_platform import Subscriber, check_health
from private_place import Place, private_place
from stack import Stack, wait_until

from thingscale.local.postgres import FIXED, Postgres
from thingscale.local.postgres_role import DATABASE, ROLE, SUPERUSER
from thingscale.processes import database_clock

pytestmark = [pytest.mark.e2e, pytest.mark.drill]
log = logging.getLogger(__name__)

SECONDS = 60.0
AWAY_SECONDS = 20.0 if LONG else 1.0  # at most, between the primary's end and the standby's promotion
WELL_SECONDS = 30.0  # from the promotion on, until each client is served: docs/several-machines.md


class Standby:
    """Has all that the primary has acknowledged."""

    def __init__(self, primary: Postgres, folder: Path) -> None:
        self._primary, self._data, self.sockets = primary, folder / "data", folder
        account = primary.directory.account
        self._identity = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
        if account:
            os.chown(folder, account.uid, account.gid)
        self._log = folder.parent / f"{folder.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """From a copy of the primary, which from then on waits for it at each commit."""
        copied = ("-D", str(self._data), "-h", str(self._primary.sockets), "-U", SUPERUSER)
        self._run("pg_basebackup", *copied, "--write-recovery-conf", "--checkpoint=fast")
        options = FIXED | {"unix_socket_directories": str(self.sockets)}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._program("postgres"), "-D", str(self._data), *words],
                stdout=output,
                stderr=output,
                cwd="/",
                **self._identity,  # type: ignore[call-overload]
            )
        with (self._primary.data / "postgresql.conf").open("a") as config:
            config.write("synchronous_standby_names = '*'\n")
        os.kill(int((self._primary.data / "postmaster.pid").read_text().split("\n", 1)[0]), signal.SIGHUP)
        wait_until(self._waited_for, SECONDS, "the primary to wait for its standby")

    def promote(self) -> None:
        self._run("pg_ctl", "promote", "-w", "-D", str(self._data))

    def stop(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
        self._log.unlink(missing_ok=True)

    def _waited_for(self) -> bool:
        with psycopg.connect(self._primary.url) as connection:
            states = connection.execute("SHOW synchronous_standby_names").fetchone()
            senders = connection.execute("SELECT count(*) FROM pg_stat_replication").fetchone()
        return states == ("*",) and senders == (1,) and self._streaming()

    def _streaming(self) -> bool:
        return "started streaming WAL" in self._log.read_text()

    def _program(self, name: str) -> str:
        return str(self._primary.directory.install / "bin" / name)

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._program(name), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            timeout=SECONDS,
            **self._identity,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, done.stderr


class Platform(NamedTuple):
    place: Place  # seen from one gateway, which has the web process and Celery with it
    second: Stack  # the other gateway
    primary: Postgres
    standby: Standby


@pytest.fixture
def platform() -> Iterator[Platform]:
    with ExitStack() as ended:
        place = ended.enter_context(private_place(*DEVICES, want=("postgres", "valkey")))
        folder = Path(tempfile.mkdtemp(prefix="thingscale-standby-"))
        ended.callback(shutil.rmtree, folder)
        primary = place.servers.postgres
        standby = Standby(primary, folder)
        ended.callback(standby.stop)
        standby.start()
        hosts = f"{primary.sockets},{standby.sockets}"
        url = f"postgresql://{ROLE}@/{DATABASE}?host={hosts}&target_session_attrs=read-write"
        first, second = (place.stack.another(DATABASE_URL=url) for _ in range(2))
        ended.callback(first.stop)
        ended.callback(second.stop)
        second.ensure("ingest")
        first.ensure("ingest", "web", "celery")
        yield Platform(place._replace(stack=first, url=url), second, primary, standby)


def listeners(place: Place) -> int:
    """Connections that hear of changes: each asks for the time once a second, to notice a dead server."""
    with psycopg.connect(place.url) as connection:
        row = connection.execute(
            """SELECT count(*) FROM pg_stat_activity WHERE application_name = 'thingscale-ingest'
            AND query IN ('LISTEN thingscale', %s)""",
            [database_clock.QUESTION],
        ).fetchone()
    assert row
    return int(row[0])


async def drill(platform: Platform, mix: Mix, commands: Commands) -> float:
    """Returns how long it took from the promotion on until each client was served."""
    await asyncio.gather(*(each.subscribe(20) for each in commands.subscribers))
    listening = [asyncio.create_task(each.run()) for each in commands.subscribers]
    try:
        async with mix.flowing(SECONDS), commands.load.flowing(SECONDS):
            await mix.moves(SECONDS)
            await until(lambda: len(commands.load.acked) > 20, SECONDS)
            heard = await asyncio.to_thread(listeners, platform.place)
            assert heard > 0
            await asyncio.sleep(random.uniform(0, 0.5))
            await asyncio.to_thread(platform.primary.kill)
            await asyncio.sleep(random.uniform(0, AWAY_SECONDS))
            began = time.monotonic()
            await asyncio.to_thread(platform.standby.promote)
            sent, waited = len(commands.load.acked), commands.load.in_flight
            await mix.moves(WELL_SECONDS)
            await until(lambda: len(commands.load.acked) > sent + waited, WELL_SECONDS)
            served = time.monotonic() - began

            def all_listen() -> bool:
                return listeners(platform.place) >= heard

            await asyncio.to_thread(wait_until, all_listen, WELL_SECONDS, "all to hear of changes again")
            for gate in commands.gates:
                gate.shut()
        await commands.wait_for_all(SECONDS)
    finally:
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
    return served


def test_standby_takes_over_under_load(platform: Platform) -> None:
    place = platform.place
    mix, commands = Mix(place), Commands(place)
    half = [senders[1] for senders in mix.mqtt.values()]
    for sender in (*half, *commands.load.senders):  # commands go from one gateway to the other
        sender.move(platform.second.mqtt)
    served = asyncio.run(drill(platform, mix, commands))
    log.info(
        "%d stored, %d from client to client; each was served %.1f s after the promotion",
        *(mix.check(), len(commands.load.acked), served),
    )
    commands.check()
    with Subscriber(place, "qos-1") as subscriber:
        check_health(place, subscriber)
