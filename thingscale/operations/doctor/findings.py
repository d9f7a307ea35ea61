"""What a check has found."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    PROBLEM = "problem"  # something does not work, or what is acknowledged may get lost
    WARNING = "warning"  # works, but somebody should look at it


class Finding(NamedTuple):
    level: Level
    sentence: str  # what is wrong
    remedy: str  # what to do
    check: str = ""  # that found it


Findings = Iterator[Finding]


def problem(sentence: str, remedy: str) -> Finding:
    return Finding(Level.PROBLEM, sentence, remedy)


def warning(sentence: str, remedy: str) -> Finding:
    return Finding(Level.WARNING, sentence, remedy)
