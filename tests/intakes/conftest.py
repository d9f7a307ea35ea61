import time
from collections.abc import Callable
from pathlib import Path

import pytest

MOST_MEMORY = 150  # MiB
MOST_SECONDS = 5.0  # of computing


@pytest.fixture
def costs_little() -> Callable[[Callable[[], object]], None]:
    """Fails if a call takes more time or memory than any body of a few MiB may take."""

    def check(call: Callable[[], object]) -> None:
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        began = time.thread_time()
        call()
        seconds = time.thread_time() - began
        assert seconds < MOST_SECONDS
        assert memory("VmHWM") - before < MOST_MEMORY

    return check


def memory(which: str) -> int:
    """MiB of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[which].split()[0]) // 1024
