"""Runs the agent with a clock that goes faster: `fast_agent.py SPEED START LOG`.

It writes the time of each sample that it has kept into LOG. Its configuration is in the environment. With
PADDING, samples are made up, and have that many bytes.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from servwatch_agent import config
from servwatch_agent.agent import EPOCH, Agent
from servwatch_agent.clock import Clock


class FastClock(Clock):
    def __init__(self, speed: float, start: float) -> None:
        self.speed = speed
        self.start = start
        self.began = time.monotonic()

    def wall(self) -> float:
        return self.start + self.monotonic()

    def monotonic(self) -> float:
        return (time.monotonic() - self.began) * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)


class LoggingAgent(Agent):
    def __init__(self, log: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def _keep(self, keep: Callable[[Any], None], what: Any) -> bool:
        samples: list[bytes] = []

        def noted(*own: int) -> bytes:
            samples.append(what(*own))
            return samples[0]

        kept = await super()._keep(keep, noted if callable(what) else what)
        for sample in samples:
            at = datetime.fromisoformat(json.loads(sample)["at"])
            os.write(self.log, b"%d\n" % ((at - EPOCH) // timedelta(microseconds=1)))
        return kept


async def main(speed: float, start: float, log: str) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    padding = "x" * int(os.environ.get("PADDING", "0"))

    async def made_up() -> dict[str, Any]:
        return {"cpu": {"idle": 93.1}, "padding": padding}

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    agent = LoggingAgent(
        log, config.load(None, os.environ), made_up if padding else None, FastClock(speed, start)
    )
    await agent.run(stop)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))
    os._exit(0)
