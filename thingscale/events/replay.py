"""What an event would have done with datapoints that are stored. Pure: the rules are those of evaluate.py and
states.py, which are given the past instead of the present."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from thingscale.events import states
from thingscale.events.evaluate import Memory, Number, Rule, Verdict, to_number
from thingscale.events.states import Datapoint, Message, Notice, Policy, Standing, State
from thingscale.lib.clock import from_us

Key = tuple[str, str]  # device_id and tag, "": none


class Point(NamedTuple):
    at: int  # microseconds since 1970 UTC
    device_id: str
    tag: str
    value: Any

    @property
    def key(self) -> Key:
        return self.device_id, self.tag


class Firing(NamedTuple):
    start: datetime
    end: datetime | None  # None: it still fires
    device_id: str
    tag: str
    value: str  # with which it began, as JSON text


class Height(NamedTuple):
    at: int  # microseconds since 1970 UTC
    key: Key
    number: Number


@dataclass
class Replay:
    firings: list[Firing] = field(default_factory=list)  # in the order of their beginning
    messages: int = 0  # that say that it fires
    found: int = 0  # datapoints that have something at the source
    heights: list[Height] = field(default_factory=list)  # what a chart shows of them


@dataclass
class _Followed:
    """A device and tag."""

    standing: Standing
    fires: tuple[datetime, str] | None = None  # since when, and the value


class Replaying:
    """Takes datapoints in the order of time."""

    def __init__(self, rule: Rule, policy: Policy) -> None:
        self.rule = rule
        self.policy = policy
        self.replay = Replay()
        self._followed: dict[Key, _Followed] = {}
        self._memories: dict[Key, Memory] = {}
        self._heard: dict[str, datetime] = {}  # by device_id

    def point(self, point: Point) -> None:
        if not self.rule.watches(point.device_id):
            return
        values = list(self.rule.path.values(point.value))
        if values:
            self.replay.found += 1
            number = to_number(values[0])
            if number is not None:
                self.replay.heights.append(Height(point.at, point.key, number))
        at = from_us(point.at)
        if self.policy.no_data_after:
            self._note_heard(point.device_id, at)
        memory = self._memories.setdefault(point.key, Memory()) if self.rule.remembers else None
        seen = self.rule.sees(point.value, point.at, memory)
        if seen is not None:
            self._follow(point.key, at, seen)

    def _note_heard(self, device_id: str, at: datetime) -> None:
        """After a pause, what had no data must know it before the device speaks again."""
        before = self._heard.get(device_id)
        if before and (at - before).total_seconds() >= self.policy.no_data_after:
            for key in self._followed:
                if key[0] == device_id:
                    self.pass_time(key, at)
        self._heard[device_id] = at

    def _follow(self, key: Key, at: datetime, seen: Verdict) -> None:
        followed = self._followed.get(key)
        if followed is None:
            if not seen.matched:
                return
            followed = self._followed[key] = _Followed(Standing(since=at, at=at))
        else:
            self.pass_time(key, at)
        it = followed.standing
        datapoint = Datapoint(at, seen.value)
        if seen.matched:
            changed = states.match(it, self.policy, datapoint, at)
        else:
            changed = states.clear(it, datapoint, at)
        self._note_state(key, followed)
        if not self.policy.of_datapoints:
            self._count(states.tell_state(it, self.policy, changed, at, None))
        elif seen.matched:
            self._count(states.tell_datapoint(it, self.policy, datapoint, at, None))

    def pass_time(self, key: Key, until: datetime) -> None:
        """What time alone changes, up to this moment."""
        followed = self._followed[key]
        it, heard = followed.standing, self._heard.get(key[0])
        before = None
        while (due := states.due_at(it, self.policy, heard)) and due <= until and due != before:
            before = due
            changed = states.pass_time(it, self.policy, due, heard)
            self._note_state(key, followed)
            if self.policy.of_datapoints:
                self._count(states.tell_left_out(it, self.policy, due, None))
            else:
                self._count(states.tell_state(it, self.policy, changed, due, None))

    def _note_state(self, key: Key, followed: _Followed) -> None:
        it = followed.standing
        if it.state == State.FIRING and followed.fires is None:
            followed.fires = it.since, it.value
        elif it.state != State.FIRING and followed.fires is not None:
            start, value = followed.fires
            self.replay.firings.append(Firing(start, it.since, *key, value))
            followed.fires = None

    def _count(self, message: Message | None) -> None:
        if message is not None and message.hush is None and message.notice != Notice.RESOLVED:
            self.replay.messages += 1

    def end(self, now: datetime) -> Replay:
        for key, followed in self._followed.items():
            self.pass_time(key, now)
            if followed.fires is not None:
                start, value = followed.fires
                self.replay.firings.append(Firing(start, None, *key, value))
        self.replay.firings.sort(key=lambda firing: firing.start)
        return self.replay


def replay(rule: Rule, policy: Policy, points: Iterable[Point], now: datetime) -> Replay:
    """`points` in the order of time, up to `now`."""
    replaying = Replaying(rule, policy)
    for point in points:
        replaying.point(point)
    return replaying.end(now)


def replay_silence(
    heard: Mapping[str, Sequence[datetime]], silence: timedelta, now: datetime
) -> list[Firing]:
    """`heard`: by device_id, when it sent something, in the order of time."""
    firings = []
    for device_id, times in heard.items():
        for last, again in zip(times, [*times[1:], None], strict=True):
            if (again or now) - last > silence:
                firings.append(Firing(last + silence, again, device_id, "", ""))
    return sorted(firings, key=lambda firing: firing.start)
