"""The disk that PostgreSQL is on gets full under load, and is freed again. It is a small one of its own: a
tmpfs, which only root may mount."""

import asyncio
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from drill_client import until
from drill_load import DEVICES, LONG, Mix
from private_place import Place, private_place

pytestmark = [pytest.mark.e2e, pytest.mark.drill]
log = logging.getLogger(__name__)

SIZE = 250 * 2**20
FULL_SECONDS = 60 if LONG else 1
BLOCK = bytes(2**20)


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder = Path(tempfile.mkdtemp(prefix="thingscale-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=711", "drill", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        folder.rmdir()
        pytest.skip(f"a small disk can't be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


@pytest.fixture(scope="module")
def place(django_db_setup: None, disk: Path) -> Iterator[Place]:
    with private_place(*DEVICES, home=disk / "home") as place:
        place.stack.ensure("ingest", "web")
        yield place


def fill(ballast: Path) -> None:
    """To the last byte."""
    with ballast.open("ab", buffering=0) as file:
        for block in (BLOCK, BLOCK[:4096], b"\0"):
            try:
                while file.write(block):
                    pass
            except OSError:
                continue


def free(place: Place, ballast: Path) -> None:
    """PostgreSQL may have ended, where it could not even write its log; then it is started again, as by its
    supervisor."""
    ballast.unlink()
    if not place.servers.postgres.running():
        log.info("PostgreSQL had ended")
        place.servers.postgres.start()


async def drill(place: Place, mix: Mix, ballast: Path) -> set[tuple[int, str, str]]:
    """The HTTP answers while nothing could be stored."""
    async with mix.flowing(60):
        await mix.moves(60)
        enough = asyncio.Event()
        filling = asyncio.create_task(keep_full(ballast, enough))
        await stuck(mix)
        since = time.monotonic()
        await until(lambda: (503, "TRY_AGAIN", "1") in mix.answers(since), 60)
        await asyncio.sleep(FULL_SECONDS)
        answers = mix.answers(since)
        enough.set()
        await filling
        await asyncio.to_thread(free, place, ballast)
        await mix.moves(60)
    return answers


async def keep_full(ballast: Path, enough: asyncio.Event) -> None:
    """Whatever PostgreSQL gives back meanwhile."""
    while not enough.is_set():
        await asyncio.to_thread(fill, ballast)
        await asyncio.sleep(0.05)


async def stuck(mix: Mix) -> None:
    """Until MQTT has not had anything acknowledged for a second; a lone small row may still find room."""
    async with asyncio.timeout(60):
        count = -1
        while count != mix.load.count:
            count = mix.load.count
            await asyncio.sleep(1)


def test_disk_full(place: Place, disk: Path) -> None:
    mix = Mix(place)
    answers = asyncio.run(drill(place, mix, disk / "ballast"))
    log.info("%d stored; answers while the disk was full: %s", mix.check(), answers)
    assert {status for status, _, _ in answers} <= {200, 201, 503}
    assert all(retry for status, _, retry in answers if status == 503)
    for name in ("ingest", "web"):
        assert place.stack.processes[name].poll() is None, f"{name} ended"
