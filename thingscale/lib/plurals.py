from typing import Any


def counted(count: Any, noun: str) -> str:
    """`1 datapoint`, `2,000 datapoints`. The plural is after a comma where it is not just an s."""
    singular, _, plural = noun.partition(",")
    count = count or 0
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"
