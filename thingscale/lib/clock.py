"""Time: UTC microseconds inside, the user's zone outside."""

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

POSTGRES_EPOCH = 946_684_800_000_000  # 2000-01-01 UTC in microseconds of the Unix epoch
MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d)(:\d\d(\.\d{1,6})?)?")
_ISO = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)")


def now_us() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


def from_us(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def to_us(moment: datetime) -> int:
    return (moment - _EPOCH) // MICROSECOND


def utc_text(microseconds: int) -> str:
    """`2026-01-31T13:45:30.123Z`"""
    return from_us(microseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def with_colon(moment: datetime, zone: ZoneInfo) -> str:
    """`2019-09-06T19:01:38+09:00`, as devices show it (CONTRACT, time forms)."""
    return moment.astimezone(zone).isoformat(timespec="seconds")


def without_colon(moment: datetime, zone: ZoneInfo) -> str:
    """`2015-02-06T08:26:29+0900`, as streams show it (CONTRACT, time forms)."""
    return moment.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S%z")


def all_to_us(texts: Sequence[str]) -> list[int] | None:
    """Of times with an offset, faster than one by one. None if one is anything else."""
    try:
        if not all(map(_ISO.fullmatch, texts)):
            return None
        return [to_us(moment) for moment in map(datetime.fromisoformat, texts)]
    except (TypeError, ValueError, OverflowError):
        return None


def parse_start(text: str, zone: ZoneInfo) -> datetime:
    """The first moment that the text can mean. Raises ValueError."""
    return _parse(text, zone, fold=0)


def parse_sharp_end(text: str, zone: ZoneInfo) -> datetime:
    """The last moment that the text can mean, but without seconds the beginning of its minute."""
    return _parse(text, zone, fold=1)


def parse_end(text: str, zone: ZoneInfo) -> datetime:
    """The last moment that the text can mean: a minute or second without its fraction is taken whole."""
    moment = _parse(text, zone, fold=1)
    match = _LOCAL.match(text.strip())
    if match and match[4]:
        return moment
    unit = SECOND if match and match[3] else MINUTE
    return moment + min(unit - MICROSECOND, LATEST - moment)


def _parse(text: str, zone: ZoneInfo, fold: int) -> datetime:
    text = text.strip()
    if not _ISO.fullmatch(text) and not _LOCAL.fullmatch(text):
        raise ValueError("must look like 2026-01-31 13:45, 2026-01-31 13:45:30 or 2026-01-31T13:45:30+09:00")
    moment = datetime.fromisoformat(text)
    try:
        return moment.astimezone(UTC) if moment.tzinfo else resolve_local(moment, zone, fold)
    except OverflowError:  # 0001-01-01 and 9999-12-31, "for ever" to many clients, end elsewhere in UTC
        return EARLIEST if moment.year == 1 else LATEST


def resolve_local(local: datetime, zone: ZoneInfo, fold: int) -> datetime:
    """A naive local time as UTC: one that a clock change makes double is told apart by `fold`,
    one that does not exist is moved forward over the gap."""
    first, second = (local.replace(tzinfo=zone, fold=f) for f in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first.astimezone(UTC)
    in_gap = first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local
    # Before the gap's end, fold=0 carries the old offset, which moves the time forward.
    return (first if in_gap or fold == 0 else second).astimezone(UTC)
