"""Running a script, and finding the shortest part of it that still fails."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from model.client import Alter
from model.driver import SECONDS, Driver, unaltered
from model.model import Divergence
from model.servers import Server
from model.steps import Step


class Found(NamedTuple):
    step: int
    kind: str
    sentence: str


def divergence_of(
    server: Server, script: Sequence[Step], alter: Alter = unaltered, patience: float = SECONDS
) -> Found | None:
    """Of a server without sessions and retained messages."""
    driver = Driver(server, alter, patience)
    try:
        driver.run(script)
    except Divergence as divergence:
        return Found(driver.step, divergence.kind, str(divergence))
    return None


def shorten(server: Server, script: Sequence[Step], found: Found) -> list[Step]:
    """Leaves out ever smaller parts, as long as the same kind of divergence stays."""
    steps = list(script)
    size = len(steps) // 2
    while size:
        start = 0
        while start < len(steps):
            less = steps[:start] + steps[start + size :]
            server.forget()
            again = divergence_of(server, less, patience=1.0)
            if again and _words(again) == _words(found):
                steps = less[: again.step + 1]
            else:
                start += size
        size //= 2
    return steps


def _words(found: Found) -> str:
    """What stays the same when messages come at other times."""
    return re.sub(r"[0-9.]+|b'.*?'", "", found.sentence.split(";")[0])[:90]


def describe(seed: int, found: Found, steps: Sequence[Step]) -> str:
    last = "\n".join(f"  {step!r}" for step in steps[-40:])
    return f"Seed {seed}, step {found.step}: {found.sentence}\nThe last of {len(steps)} steps:\n{last}\n"
