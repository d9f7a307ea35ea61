"""Times are UTC microseconds inside the platform, and in the user's zone outside.

The clock of all processes is the database's. Those of the machines may differ, but what one of them writes is
compared by another, and a device's datapoints have to be in order wherever it connects.

This has the one parser for all times that people and devices write: the ranges of the API and of the console,
and the `at` of a datapoint.
"""

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import NamedTuple
from zoneinfo import ZoneInfo

POSTGRES_EPOCH = 946_684_800_000_000  # 2000-01-01 UTC in microseconds of the Unix epoch
MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)
OLDEST_DATAPOINT = POSTGRES_EPOCH  # storage has no partitions before
# Microseconds. The datapoints of a clock that is wrong by more would be the `last` ones for too long.
MAX_AHEAD = 86_400_000_000
# Nanoseconds; goes on while the machine sleeps.
steady_ns: Callable[[], int] = partial(
    time.clock_gettime_ns, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO = re.compile(rf"{_DATE}[ T][0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}(\.[0-9]+)?)?(Z|[+-][0-9]{{2}}:?[0-5][0-9])")
_WRITTEN = re.compile(
    rf"(?P<date>{_DATE})"
    r"([ Tt](?P<minute>[0-9]{2}:[0-9]{2})(?P<second>:[0-9]{2}([.,](?P<fraction>[0-9]+))?)?"
    r"( ?(?P<offset>[Zz]|[+-][0-9]{2}(:?[0-5][0-9])?))?)?"
)
_LOST_PLUS = re.compile(
    rf"({_DATE}[ Tt][0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}([.,][0-9]+)?)?) ([0-9]{{2}}(:?[0-9]{{2}})?)"
)
_UNIX = re.compile(r"[0-9]{1,20}(\.[0-9]+)?([eE]\+?[0-9]{1,2})?")
_UNIX_SECONDS = (10**8, 10**10)  # 1973 to 2286
_UNIX_MILLISECONDS = (POSTGRES_EPOCH // 1000, 10**13)  # 2000 to 2286
FORMS = (
    "must look like 2026-01-31 13:45, 2026-01-31T13:45:30.5+09:00 or 2026-01-31, or be a Unix time in seconds"
    " or milliseconds such as 1769834730"
)


class DatabaseClock:
    """The database's clock, told from this machine's steady one. Whoever has asked the database for its time
    gives it here (processes/database_clock.py); before the first time, it is the machine's own clock."""

    def __init__(self) -> None:
        self._ahead: int | None = None  # nanoseconds from the steady clock to the database's

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        if self._ahead is None:
            return time.time_ns() // 1000
        return (steady_ns() + self._ahead) // 1000

    def adjust(self, asked: int, answered: int, shown: int) -> None:
        """The database's clock showed `shown` (microseconds) at some time between `asked` and `answered` of
        steady_ns(). What fits that is kept as it is, so that a slow answer changes nothing."""
        earliest, latest = shown * 1000 - answered, (shown + 1) * 1000 - asked
        known = (earliest + latest) // 2 if self._ahead is None else self._ahead
        self._ahead = min(max(known, earliest), latest)


CLOCK = DatabaseClock()
now_us = CLOCK.now_us


def now() -> datetime:
    return from_us(now_us())


def from_us(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def to_us(moment: datetime) -> int:
    return (moment - _EPOCH) // MICROSECOND


def utc_text(microseconds: int) -> str:
    """`2026-01-31T13:45:30.123Z`"""
    return from_us(microseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def with_colon(moment: datetime, zone: ZoneInfo) -> str:
    """`2019-09-06T19:01:38+09:00`, as devices show it (docs/contract.md, Times)."""
    return moment.astimezone(zone).isoformat(timespec="seconds")


def without_colon(moment: datetime, zone: ZoneInfo) -> str:
    """`2015-02-06T08:26:29+0900`, as streams show it (docs/contract.md, Times)."""
    return moment.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S%z")


def all_to_us(texts: Sequence[str]) -> list[int] | None:
    """Reads times that have an offset, faster than one by one. None if one of them is anything else."""
    try:
        if not all(map(_ISO.fullmatch, texts)):
            return None
        return [to_us(moment) for moment in map(datetime.fromisoformat, texts)]
    except (TypeError, ValueError, OverflowError):
        return None


class WrittenTime(NamedTuple):
    moment: datetime  # naive where the text has no offset
    width: timedelta  # how exact the text is: a day, a minute, a second or a microsecond


def parse_start(text: str, zone: ZoneInfo) -> datetime:
    """The first moment that the text can mean. Raises ValueError."""
    return _in_utc(read_time(text).moment, zone, fold=0)


def parse_sharp_end(text: str, zone: ZoneInfo) -> datetime:
    """The last moment that the text can mean; if it is a minute or a second, its beginning."""
    written = read_time(text)
    return _end_of_day(written, zone) if written.width == DAY else _in_utc(written.moment, zone, fold=1)


def parse_end(text: str, zone: ZoneInfo) -> datetime:
    """The last moment that the text can mean: a day, a minute or a second is taken whole."""
    written = read_time(text)
    if written.width == DAY:
        return _end_of_day(written, zone)
    moment = _in_utc(written.moment, zone, fold=1)
    return moment + min(written.width - MICROSECOND, LATEST - moment)


def restore_plus(text: str) -> str:
    """Restores a `+` that arrived as a space, because a query string had it instead of %2B: between a time
    and digits."""
    return _LOST_PLUS.sub(r"\1+\4", text.strip())


def datapoint_time(at: object, zone: ZoneInfo, now: int) -> int:
    """Microseconds, from the `at` of a datapoint as JSON has it; null is now. Raises ValueError."""
    if at is None:
        return now
    if not isinstance(at, str | int | float) or isinstance(at, bool):
        raise ValueError("must be a time such as 2026-01-31T13:45:30+09:00")
    moment = to_us(parse_start(str(at), zone))
    if not OLDEST_DATAPOINT <= moment <= now + MAX_AHEAD:
        raise ValueError("must be from 2000-01-01 to a day ahead")
    return moment


def read_time(text: str) -> WrittenTime:
    """Raises ValueError with a rule that completes a sentence that begins with the field's name."""
    text = text.strip()
    if _UNIX.fullmatch(text):
        return _read_unix(Decimal(text))
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise ValueError(FORMS)
    if found["minute"] is None:
        return WrittenTime(datetime.fromisoformat(found["date"]), DAY)
    clock = found["minute"] + (found["second"] or "")
    if found["minute"] == "24:00":
        raise ValueError("has 24:00: write 00:00 of the next day")
    if clock[6:8] == "60":
        raise ValueError(
            "has a leap second, which no clock here counts: write :59, or :00 of the next minute"
        )
    fraction, offset = found["fraction"] or "", (found["offset"] or "").upper()
    moment = datetime.fromisoformat(f"{found['date']}T{clock[:8]}{offset}")
    if fraction:
        return WrittenTime(moment.replace(microsecond=int(fraction[:6].ljust(6, "0"))), MICROSECOND)
    return WrittenTime(moment, SECOND if found["second"] else MINUTE)


def _read_unix(number: Decimal) -> WrittenTime:
    """Seconds or milliseconds, told apart by size. Between the two lie dates that somebody wrote without
    their dashes, and above them microseconds: no guess is made about those."""
    whole = number == number.to_integral_value()
    if not number or _UNIX_SECONDS[0] <= number < _UNIX_SECONDS[1]:
        return WrittenTime(from_us(int(number * 1_000_000)), SECOND if whole else MICROSECOND)
    if _UNIX_MILLISECONDS[0] <= number < _UNIX_MILLISECONDS[1]:
        return WrittenTime(from_us(int(number * 1000)), MICROSECOND)
    raise ValueError(
        "is no Unix time in seconds (9 or 10 digits) or milliseconds (12 or 13 digits, from the year 2000 on)"
    )


def _in_utc(moment: datetime, zone: ZoneInfo, fold: int) -> datetime:
    try:
        return moment.astimezone(UTC) if moment.tzinfo else resolve_local(moment, zone, fold)
    except OverflowError:  # 0001-01-01 and 9999-12-31, "for ever" to many clients, end elsewhere in UTC
        return EARLIEST if moment.year == 1 else LATEST


def _end_of_day(written: WrittenTime, zone: ZoneInfo) -> datetime:
    try:
        return resolve_local(written.moment + DAY, zone, fold=0) - MICROSECOND
    except OverflowError:
        return LATEST if written.moment.year > 1 else EARLIEST


def resolve_local(local: datetime, zone: ZoneInfo, fold: int) -> datetime:
    """A naive local time as UTC: one that a clock change makes double is told apart by `fold`,
    one that does not exist is moved forward over the gap."""
    first, second = (local.replace(tzinfo=zone, fold=f) for f in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first.astimezone(UTC)
    in_gap = first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local
    # Before the gap's end, fold=0 carries the old offset, which moves the time forward.
    return (first if in_gap or fold == 0 else second).astimezone(UTC)
