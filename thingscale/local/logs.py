"""Bounds the log files of child processes, and finds the line in them that matters."""

import contextlib
import os
import re
import shutil
from pathlib import Path

from thingscale.lib import env

MAX_BYTES = env.integer("THINGSCALE_LOG_MEGABYTES", 10, 1, 10_000) * 2**20
OLDER = env.integer("THINGSCALE_LOG_FILES", 1, 1, 100)  # parts that are kept besides
ERROR = re.compile(r"\b(ERROR|CRITICAL|FATAL|PANIC)\b")
_TAIL_BYTES = 16 * 1024


def truncate_large(log: Path) -> None:
    """Copies the newest part to a file `.1`, or nothing if the disk is full, and empties the log. This is
    safe while a child writes, since it appends (O_APPEND); only what it writes between copying and emptying
    is lost. Older parts are `.2` and so on; the oldest goes."""
    if size(log) <= MAX_BYTES:
        return
    for number in range(OLDER, 1, -1):
        with contextlib.suppress(FileNotFoundError):
            log.with_name(f"{log.name}.{number - 1}").replace(log.with_name(f"{log.name}.{number}"))
    older = log.with_name(log.name + ".1")
    with log.open("r+b") as file:
        try:
            with older.open("wb") as copy:
                file.seek(-MAX_BYTES, os.SEEK_END)
                shutil.copyfileobj(file, copy)
        except OSError:
            older.unlink(missing_ok=True)
        file.truncate(0)


def read_from(log: Path, offset: int) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(offset, log.stat().st_size - _TAIL_BYTES))
        return file.read().decode(errors="replace")


def size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def error_lines(text: str, pattern: re.Pattern[str] = ERROR) -> list[str]:
    return [line.strip() for line in text.splitlines() if pattern.search(line)]


def telling_line(text: str) -> str:
    """The last line that reports an error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next(iter(error_lines(text)[-1:] or lines[-1:]), "")
