"""One load against one target, and what became of it in the table."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from database import arrivals, count
from load import Load, Result, Target, run
from processes import Used, wait_until

from thingscale.lib.clock import now_us

STORE_SECONDS = 300


class Measured(NamedTuple):
    load: Result
    stored: float  # rows a second, from the first publish until all are in the table
    cpu_us: dict[str, float]  # a message, by process


def measure(target: Target, load: Load, table: str = "datapoint", **pids: Sequence[int]) -> Measured:
    """Checks that every message, and no other, is stored."""
    used, since, before = Used(**pids), now_us(), arrivals()
    result = run(target, load)
    wait_until(lambda: arrivals() - before >= load.sent, STORE_SECONDS, pause=0.005)
    wait_until(lambda: count(table, since) >= load.sent, 10, pause=0.005)
    seconds = time.perf_counter() - result.started
    stored = count(table, since)
    if stored != load.sent:
        raise SystemExit(f"{load.sent:,} messages were sent and {stored:,} are stored.")
    return Measured(result, load.sent / seconds, used.us(load.sent) | {"generator": result.generator_us})
