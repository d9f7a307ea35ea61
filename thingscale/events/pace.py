"""How fast a receiver that is meant for people is sent messages: a few at once, then gathered into one a
minute, and no more than so many an hour. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

MINUTE, HOUR = 60.0, 3600.0
SINGLES = 10  # messages a minute; what is more is gathered
MAX_AN_HOUR = 200  # messages an hour


@dataclass
class Pace:
    """Of one receiver. All times are in seconds."""

    sent: list[float] = field(default_factory=list)  # messages of the last hour
    digest_at: float = 0.0  # until then notifications are gathered; 0: none are
    braked_until: float = 0.0


@dataclass
class Plan(Generic[T]):
    messages: list[list[T]] = field(default_factory=list)  # each is sent as one
    later: list[T] = field(default_factory=list)  # gathered until `pace.digest_at`
    left_out: list[T] = field(default_factory=list)  # until `pace.braked_until`
    brake: bool = False  # it has just begun: the receiver is told


def plan(pace: Pace, waiting: Sequence[T], now: float) -> Plan[T]:
    """What becomes of the notifications that are due for a receiver. Changes its pace."""
    pace.sent = [moment for moment in pace.sent if moment > now - HOUR]
    if now < pace.braked_until:
        return Plan(left_out=list(waiting))
    if len(pace.sent) >= MAX_AN_HOUR:
        pace.braked_until = now + HOUR
        return Plan(left_out=list(waiting), brake=True)
    if now < pace.digest_at:
        return Plan(later=list(waiting))
    if pace.digest_at and len(waiting) > SINGLES:
        pace.digest_at = now + MINUTE
        return Plan(messages=[list(waiting)])
    recent = [moment for moment in pace.sent if moment > now - MINUTE]
    room = max(SINGLES - len(recent), 0)
    later = list(waiting[room:])
    pace.digest_at = min(recent, default=now) + MINUTE if later else 0.0
    return Plan(messages=[[each] for each in waiting[:room]], later=later)
