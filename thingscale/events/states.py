"""How a condition goes from ok by pending to firing and back, and what of that its receivers are told. Pure.

Datapoints move a `Standing` (`match`, `clear`), and so does time (`pass_time`). Receivers are told in one of
two ways:

- of datapoints: each one that matches is a message, as with the original (`tell_datapoint`);
- of states: one message when it fires, and one when that is over (`tell_state`). `told` is what they heard
  last. While something keeps them from being told, nothing is sent; when it ends they are told how it stands
  then, if that is something else.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

SECOND = timedelta(seconds=1)
FLAP_CHANGES = 6  # more of them within FLAP_SECONDS are flapping
FLAP_SECONDS = 600
STEADY_SECONDS = 300  # without a change, and flapping is over


class State(StrEnum):
    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"
    NO_DATA = "no data"


ALLOWED = {
    State.OK: {State.PENDING, State.FIRING, State.NO_DATA},
    State.PENDING: {State.OK, State.FIRING, State.NO_DATA},
    State.FIRING: {State.OK, State.NO_DATA},
    State.NO_DATA: {State.OK, State.PENDING, State.FIRING},
}


class Told(StrEnum):
    OK = ""
    FIRING = "firing"
    FLAPPING = "flapping"


class Notice(StrEnum):
    MATCH = "match"
    FIRING = "firing"
    RESOLVED = "resolved"
    FLAPPING = "flapping"


TOLD = {Notice.FIRING: Told.FIRING, Notice.RESOLVED: Told.OK, Notice.FLAPPING: Told.FLAPPING}


class Policy(NamedTuple):
    """What of an event its states and messages depend on. Times are in seconds."""

    of_datapoints: bool = False
    hold: int = 0
    no_data_after: int = 0  # 0: never
    min_interval: int = 0


class Hush(NamedTuple):
    """Why nobody is told now, and until when."""

    until: datetime
    why: str


class Datapoint(NamedTuple):
    at: datetime
    value: str


class Message(NamedTuple):
    notice: Notice
    of: Datapoint
    left_out: int = 0  # matches or changes before it that nobody was told
    hush: Hush | None = None  # it is recorded, and not sent


@dataclass(slots=True)
class Standing:
    """A condition as it is worked on."""

    since: datetime
    at: datetime
    value: str = ""
    state: State = State.OK
    told: Told = Told.OK
    left_out: int = 0  # since the last message
    notified_at: datetime | None = None
    changes: list[float] = field(default_factory=list)  # when it last began or ceased to fire, Unix time
    tell_at: datetime | None = None  # when what keeps its receivers from being told ends

    @property
    def newest(self) -> Datapoint:
        return Datapoint(self.at, self.value)

    def move(self, state: State, since: datetime, now: datetime) -> None:
        if state not in ALLOWED[self.state]:
            raise ValueError(f"A condition can't go from {self.state} to {state}")
        if State.FIRING in {state, self.state}:
            self.changes = [*self.changes, now.timestamp()][-FLAP_CHANGES - 1 :]
        self.state, self.since = state, since


def match(it: Standing, policy: Policy, seen: Datapoint, now: datetime) -> bool:
    """A datapoint that is older than the newest one that is known moves nothing. Returns whether the state
    is another one now."""
    if seen.at < it.at:
        return False
    it.at, it.value = seen
    if it.state in {State.OK, State.NO_DATA}:
        it.move(State.PENDING if policy.hold else State.FIRING, seen.at, now)
        return True
    if it.state == State.PENDING and seen.at >= it.since + policy.hold * SECOND:
        it.move(State.FIRING, seen.at, now)
        return True
    return False


def clear(it: Standing, seen: Datapoint, now: datetime) -> bool:
    if seen.at < it.at:
        return False
    it.at, it.value = seen
    if it.state == State.OK:
        return False
    it.move(State.OK, seen.at, now)
    return True


def pass_time(it: Standing, policy: Policy, now: datetime, heard: datetime | None) -> bool:
    """`heard`: when its device, or its channel, sent anything last."""
    if it.state == State.PENDING and now >= it.since + policy.hold * SECOND:
        it.move(State.FIRING, it.since + policy.hold * SECOND, now)
        return True
    if policy.no_data_after and it.state != State.NO_DATA and now >= _no_data_at(it, policy, heard):
        it.move(State.NO_DATA, now, now)
        return True
    return False


def tell_datapoint(
    it: Standing, policy: Policy, seen: Datapoint, now: datetime, hush: Hush | None
) -> Message | None:
    """Of those that nobody is told, the first one is recorded, and counted are all."""
    hush = hush or _too_soon(it, policy, now)
    if hush:
        it.left_out += 1
        it.tell_at = hush.until
        return Message(Notice.MATCH, seen, 0, hush) if it.left_out == 1 else None
    left_out, it.left_out, it.notified_at, it.tell_at = it.left_out, 0, now, None
    return Message(Notice.MATCH, seen, left_out)


def tell_left_out(it: Standing, policy: Policy, now: datetime, hush: Hush | None) -> Message | None:
    """Once they may be told again: the newest datapoint of those that they were not told, if it still
    fires."""
    it.tell_at = None
    if not it.left_out or it.state != State.FIRING:
        return None
    if hush := hush or _too_soon(it, policy, now):
        it.tell_at = hush.until
        return None
    it.left_out -= 1
    return tell_datapoint(it, policy, it.newest, now, None)


def tell_state(
    it: Standing, policy: Policy, changed: bool, now: datetime, hush: Hush | None
) -> Message | None:
    """After each change of the state, and whenever time has passed."""
    it.tell_at = None
    steady_at = _flaps_until(it, now)
    if steady_at and it.told == Told.FLAPPING:
        it.left_out += changed
        it.tell_at = steady_at
        return None
    if steady_at:
        notice = Notice.FLAPPING
    elif it.state == State.FIRING and it.told != Told.FIRING:
        notice = Notice.FIRING
        hush = hush or _too_soon(it, policy, now)
    elif it.state != State.FIRING and it.told != Told.OK:
        notice = Notice.RESOLVED
    else:
        return None
    if hush:
        it.left_out += changed
        it.tell_at = hush.until
        return Message(notice, it.newest, 0, hush) if changed and not steady_at else None
    left_out, it.left_out, it.told, it.tell_at = it.left_out, 0, TOLD[notice], steady_at
    if notice != Notice.RESOLVED:
        it.notified_at = now
    return Message(notice, it.newest, left_out)


def due_at(it: Standing, policy: Policy, heard: datetime | None) -> datetime | None:
    """When time alone can change something; None: never."""
    moments = [it.tell_at] if it.tell_at else []
    if it.state == State.PENDING:
        moments.append(it.since + policy.hold * SECOND)
    if policy.no_data_after and it.state != State.NO_DATA:
        moments.append(_no_data_at(it, policy, heard))
    return min(moments, default=None)


def _no_data_at(it: Standing, policy: Policy, heard: datetime | None) -> datetime:
    return max(it.at, heard or it.at) + policy.no_data_after * SECOND


def _too_soon(it: Standing, policy: Policy, now: datetime) -> Hush | None:
    if not policy.min_interval or it.notified_at is None:
        return None
    until = it.notified_at + policy.min_interval * SECOND
    return Hush(until, f"min_interval: at most every {policy.min_interval} s.") if now < until else None


def _flaps_until(it: Standing, now: datetime) -> datetime | None:
    """None: it is steady."""
    recent = [moment for moment in it.changes if moment > now.timestamp() - FLAP_SECONDS]
    if not recent or (len(recent) <= FLAP_CHANGES and it.told != Told.FLAPPING):
        return None
    left = recent[-1] + STEADY_SECONDS - now.timestamp()
    return now + left * SECOND if left > 0 else None
