"""How a notification goes out, and what became of it."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import NamedTuple

from thingscale.events.guard import NOT_REACHED, Guard

MAX_ANSWER = 300  # characters of it that are kept
MAX_RETRY_AFTER = 6 * 3600.0  # seconds: a receiver may ask for more, and is asked again


class Result(Enum):
    SENT = "sent"
    RETRY = "retry"
    FAILED = "failed"


class Outcome(NamedTuple):
    result: Result
    answer: str  # of the receiver, or what went wrong
    retry_after: float | None = None  # seconds that the receiver asked for


def in_short(text: str) -> str:
    """On one line, of what a column can keep."""
    return re.sub(r"[\s\x00-\x1f\x7f\ud800-\udfff]+", " ", text).strip()[:MAX_ANSWER]


def seconds_to_wait(header: str | None) -> float | None:
    """Of Retry-After: seconds, or a date."""
    if not header:
        return None
    if header.strip().isdecimal():
        seconds = float(header.strip()[:9])
    else:
        try:
            date = parsedate_to_datetime(header)
        except (ValueError, TypeError):
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def by_http(guard: Guard, error: Exception | None) -> Outcome:
    """What became of a request within `guarded()`, by its answer or else by what it raised."""
    if guard.answer:
        status, text, retry_after = guard.answer
        said = in_short(f"{status} {text}")
        if 200 <= status < 300:
            return Outcome(Result.SENT, said)
        if status in {408, 429} or status >= 500:
            return Outcome(Result.RETRY, said, seconds_to_wait(retry_after))
        if 300 <= status < 400:
            return Outcome(
                Result.FAILED, f"{status}: a redirect is not followed. Give the address it leads to."
            )
        return Outcome(Result.FAILED, said)
    if guard.refused:
        return Outcome(Result.FAILED, NOT_REACHED)
    if guard.late:
        return Outcome(Result.RETRY, "There was no answer in time.")
    return _by_error(error)


def _by_error(error: Exception | None) -> Outcome:
    from requests import exceptions

    if isinstance(error, exceptions.SSLError):
        return Outcome(
            Result.RETRY, "TLS failed: the certificate can't be verified, or nothing speaks TLS there."
        )
    if isinstance(error, exceptions.Timeout):
        return Outcome(Result.RETRY, "There was no answer in time.")
    if isinstance(error, ValueError):  # InvalidURL and the like
        return Outcome(Result.FAILED, "The address can't be used.")
    if isinstance(error, OSError):  # RequestException
        name = " Its name is not known." if "NameResolution" in repr(error) else ""
        return Outcome(Result.RETRY, f"There was no connection, or it broke.{name}")
    return Outcome(Result.FAILED, f"It can't be sent: {type(error).__name__}.")
