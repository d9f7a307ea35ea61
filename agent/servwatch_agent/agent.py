"""Measures once an interval, gives each sample its time, and answers commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import queue
import re
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from servwatch_agent import checks, config, facts
from servwatch_agent.background import Background, Worker
from servwatch_agent.buffer import Buffer
from servwatch_agent.clock import Clock
from servwatch_agent.config import Config
from servwatch_agent.connector import Connector
from servwatch_agent.http import Http
from servwatch_agent.metrics import Metrics, Processes, file_systems
from servwatch_agent.mqtt import Mqtt
from servwatch_agent.sender import Sender

log = logging.getLogger(__name__)

PROCESS_SECONDS = 30.0
UNIT_SECONDS = 30.0
MEASURE_SECONDS = 5.0
KEEP_SECONDS = 5.0
MOST_COMMANDS = 10  # that wait
COMMAND_SECONDS = 1.0  # between two
EARLIEST = datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp()  # before: the clock was not set yet
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
HELP = "it knows ping, report and interval=N"


class Measuring:
    """All that a sample has. What may hang is measured beside it."""

    def __init__(
        self, config: Config, interval: Callable[[], float], process_seconds: float = PROCESS_SECONDS
    ) -> None:
        self._metrics = Metrics()
        self._worker = Worker("metrics")
        self.beside = {
            "disk": Background("disk", file_systems, interval),
            "processes": Background(
                "processes", Processes().measure, lambda: max(process_seconds, interval())
            ),
        }
        if config.units:
            names = config.units
            self.beside["units"] = Background("units", lambda: checks.units(names), lambda: UNIT_SECONDS)
        self.checks = {
            each.name: Background(
                f"check {each.name}",
                lambda each=each: checks.run(each),  # type: ignore[misc]
                lambda each=each: each.every,  # type: ignore[misc]
                late=checks.DOWN,
            )
            for each in config.checks
        }

    async def sample(self) -> dict[str, Any]:
        try:
            found = await self._worker.call(MEASURE_SECONDS, self._metrics.measure)
        except (asyncio.TimeoutError, queue.Full):
            found = {}
            log.warning("The machine does not say how it is; a sample has only what is measured beside.")
        groups = {name: each.latest() for name, each in self.beside.items()}
        results = {name: each.latest() for name, each in self.checks.items()}
        if known := {name: result for name, result in results.items() if result}:
            groups["checks"] = checks.summary(known)
        return {**found, **{name: group for name, group in groups.items() if group}}

    def wait(self, seconds: float) -> None:
        """For the first results of all that is measured beside."""
        for each in (*self.beside.values(), *self.checks.values()):
            each.wait(seconds)


class Agent:
    def __init__(
        self,
        config: Config,
        sample: Callable[[], Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Another `sample` and `clock` are for tests."""
        self.config = config
        self.interval = config.interval
        self.sample = sample or Measuring(config, lambda: self.interval).sample
        self.clock = clock or Clock()
        self.disk = Worker("buffer")
        self.buffer = Buffer(config.buffer, config.buffer_bytes)
        self.sender = Sender(self.buffer, self.disk, self._connectors(), self.clock)
        self._commands: asyncio.Queue[bytes] = asyncio.Queue(MOST_COMMANDS)
        self._report = asyncio.Event()
        self._recent: deque[int] = deque(maxlen=1000)  # times of samples, in microseconds
        self._not_kept = 0
        self._errors: deque[str] = deque(maxlen=10)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. Raises what ends a part of it."""
        parts = [
            asyncio.ensure_future(each)
            for each in (
                self._measure(),
                self.sender.run(),
                self._answer(),
                self._gather_facts(),
                stop.wait(),
            )
        ]
        try:
            ended, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for each in ended:
                each.result()
        finally:
            for each in parts:
                each.cancel()
            await asyncio.wait(parts, timeout=5)
            with contextlib.suppress(asyncio.TimeoutError, queue.Full):
                await asyncio.wait_for(self.sender.close(), 10)
                await self.disk.call(10, self.buffer.close)

    def _connectors(self) -> list[Connector]:
        connectors: list[Connector] = []
        if self.config.connector != config.HTTP:
            connectors.append(Mqtt(self.config, self.buffer.client, self._on_message))
        if self.config.connector != config.MQTT:
            connectors.append(Http(self.config))
        return connectors

    async def _measure(self) -> None:
        due = self.clock.monotonic()
        while True:
            if self.clock.wall() < EARLIEST:
                self._say_once("The clock of this machine is not set. There are no samples until it is.")
            else:
                await self._keep_sample(await self.sample())
            due += self.interval
            wait = due - self.clock.monotonic()
            if not 0 < wait <= self.interval:  # the machine was asleep, or the interval is another one now
                wait = max(0.0, min(wait, self.interval))
                due = self.clock.monotonic() + wait
            await self._sleep_or_report(wait)

    async def _sleep_or_report(self, seconds: float) -> None:
        """The command `report` ends it."""
        waits = [asyncio.ensure_future(each) for each in (self.clock.sleep(seconds), self._report.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        self._report.clear()

    async def _keep_sample(self, sample: dict[str, Any]) -> None:
        at, not_kept = self._time(), self._not_kept

        def line(waiting: int, dropped: int) -> bytes:
            own = {"waiting": waiting, **({"dropped": dropped + not_kept} if dropped + not_kept else {})}
            return _line({"at": at, "value": {"interval": plain(self.interval), **sample, "agent": own}})

        if await self._keep(self.buffer.append_telling, line):
            self._not_kept -= not_kept

    async def _keep(self, keep: Callable[[Any], None], what: Any) -> bool:
        """False: it is lost."""
        try:
            await self.disk.call(KEEP_SECONDS, keep, what)
        except asyncio.TimeoutError:
            self._say_once("The disk of the buffer does not answer; samples wait for it in memory.")
        except queue.Full:
            self._not_kept += 1
            return False
        self.sender.new.set()
        return True

    def _time(self) -> str:
        """Wall time, which may be set back: no two samples have the same."""
        now = round(self.clock.wall() * 1_000_000)
        while now in self._recent:
            now += 1
        self._recent.append(now)
        return (EPOCH + timedelta(microseconds=now)).isoformat(timespec="microseconds")[:26] + "Z"

    async def _gather_facts(self) -> None:
        worker = Worker("facts")
        port = self.config.http_port if self.config.connector == config.HTTP else self.config.mqtt_port
        while True:
            try:
                self.sender.facts = await worker.call(60, facts.gather, self.config.server, port)
            except Exception as error:  # of any kind: they are not worth an end of the samples
                log.warning("No facts about this machine: %s: %s", type(error).__name__, error)
            await self.clock.sleep(3600)

    def _on_message(self, kind: str, payload: bytes) -> None:
        if kind == "errors":
            self._say_once(f"The platform rejects what is sent: {payload[:500].decode(errors='replace')}")
        elif not self._commands.full():
            self._commands.put_nowait(payload[:1000])

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._errors:
            self._errors.append(sentence)
            log.warning("%s", sentence)

    async def _answer(self) -> None:
        """To commands, of which none executes anything."""
        while True:
            command = (await self._commands.get()).decode(errors="replace").strip()
            ok, answer = self._obey(command)
            log.info("Command %r: %s.", command[:100], answer)
            value = {"command": command[:100].replace("\0", ""), "ok": ok, "answer": answer}
            point = {"at": self._time(), "value": value, "tag": "answer"}
            await self._keep(self.buffer.append, _line(point))
            await self.clock.sleep(COMMAND_SECONDS)

    def _obey(self, command: str) -> tuple[bool, str]:
        if command == "ping":
            return True, "pong"
        if command == "report":
            self._report.set()
            return True, "a sample follows"
        if found := re.fullmatch(r"interval=(\d{1,9}(?:\.\d{1,3})?)", command):
            seconds, least, most = float(found[1]), config.LEAST_INTERVAL, config.MOST_INTERVAL
            if not least <= seconds <= most:
                return False, f"an interval is from {least:g} to {most:g} seconds"
            self.interval = seconds
            self._report.set()
            return True, f"a sample every {plain(seconds)} seconds, until the agent starts again"
        return False, HELP


def _line(point: dict[str, Any]) -> bytes:
    """Exactly as it will be sent, however often."""
    return json.dumps(point, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def plain(seconds: float) -> float:
    """10, not 10.0."""
    return int(seconds) if seconds.is_integer() else seconds
