"""The machine of conditions: what datapoints and time make of it, and what receivers are told. Pure."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import pytest

from thingscale.events import states
from thingscale.events.states import (
    ALLOWED,
    FLAP_CHANGES,
    STEADY_SECONDS,
    Datapoint,
    Hush,
    Message,
    Notice,
    Policy,
    Standing,
    State,
    Told,
)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Watcher:
    """An event of one device, whose datapoints come when they were taken."""

    def __init__(self, **policy: int) -> None:
        self.policy = Policy(**policy)  # type: ignore[arg-type]
        self.it = Standing(since=START, at=START)
        self.hush: Hush | None = None
        self.messages: list[Message] = []

    def match(self, seconds: float, value: str = "31") -> "Watcher":
        seen = Datapoint(at(seconds), value)
        changed = states.match(self.it, self.policy, seen, at(seconds))
        return self._tell(changed, seconds, seen)

    def clear(self, seconds: float) -> "Watcher":
        return self._tell(states.clear(self.it, Datapoint(at(seconds), "20"), at(seconds)), seconds, None)

    def wait(self, seconds: float, heard: float | None = None) -> "Watcher":
        moment = at(heard) if heard is not None else None
        changed = states.pass_time(self.it, self.policy, at(seconds), moment)
        if self.policy.of_datapoints:
            return self._add(states.tell_left_out(self.it, self.policy, at(seconds), self._hush(seconds)))
        return self._tell(changed, seconds, None)

    def _tell(self, changed: bool, seconds: float, seen: Datapoint | None) -> "Watcher":
        hush = self._hush(seconds)
        if not self.policy.of_datapoints:
            return self._add(states.tell_state(self.it, self.policy, changed, at(seconds), hush))
        return self._add(seen and states.tell_datapoint(self.it, self.policy, seen, at(seconds), hush))

    def _hush(self, seconds: float) -> Hush | None:
        return self.hush if self.hush and self.hush.until > at(seconds) else None

    def _add(self, message: Message | None) -> "Watcher":
        if message:
            self.messages.append(message)
        return self

    @property
    def sent(self) -> list[Notice]:
        return [message.notice for message in self.messages if not message.hush]

    @property
    def left_out(self) -> list[Notice]:
        return [message.notice for message in self.messages if message.hush]

    def is_in(self, state: State) -> bool:
        return self.it.state == state

    def due(self) -> float | None:
        due = states.due_at(self.it, self.policy, None)
        return (due - START).total_seconds() if due else None


def test_each_match_is_told_and_the_state_follows() -> None:
    it = Watcher(of_datapoints=True).match(1).match(2).clear(3).match(4)
    assert it.sent == [Notice.MATCH] * 3
    assert it.is_in(State.FIRING)
    assert it.it.since == at(4)
    assert it.due() is None


def test_a_state_is_told_when_it_begins_and_ends() -> None:
    it = Watcher().match(1).match(2).clear(3).clear(4)
    assert it.sent == [Notice.FIRING, Notice.RESOLVED]


def test_what_comes_late_moves_nothing_and_is_told_all_the_same() -> None:
    it = Watcher(of_datapoints=True).match(10).clear(20).match(15)
    assert it.is_in(State.OK)
    assert it.sent == [Notice.MATCH] * 2
    by_state = Watcher().match(10).clear(5)
    assert by_state.is_in(State.FIRING)


@pytest.mark.parametrize(("last", "state"), [(59.9, State.PENDING), (60, State.FIRING)])
def test_it_has_to_hold(last: float, state: State) -> None:
    it = Watcher(hold=60).match(0).match(last)
    assert it.is_in(state)
    assert Watcher(hold=60).match(0).wait(last).is_in(state)


def test_holding_begins_anew_with_each_clear() -> None:
    it = Watcher(hold=60).match(0).match(50).clear(55).match(58)
    assert it.due() == 118
    it.match(100)
    assert it.is_in(State.PENDING)
    assert it.sent == []
    assert it.wait(118).it.since == at(118)
    assert it.sent == [Notice.FIRING]


def test_without_data_it_is_neither_firing_nor_well() -> None:
    it = Watcher(no_data_after=60).match(0)
    assert it.due() == 60
    it.wait(60, heard=30)  # something else was heard of the device
    assert it.is_in(State.FIRING)
    it.wait(90, heard=30)
    assert it.is_in(State.NO_DATA)
    assert it.due() is None
    assert it.sent == [Notice.FIRING, Notice.RESOLVED]
    assert it.match(100).sent[-1] == Notice.FIRING
    well = Watcher(no_data_after=60).match(0).clear(1).wait(61)
    assert well.is_in(State.NO_DATA)
    assert well.sent == [Notice.FIRING, Notice.RESOLVED]


def test_min_interval_leaves_out_what_comes_too_soon_and_says_how_much() -> None:
    it = Watcher(of_datapoints=True, min_interval=60)
    for seconds in range(0, 60, 10):
        it.match(seconds, f"{seconds}")
    assert it.sent == [Notice.MATCH]
    assert it.left_out == [Notice.MATCH]  # five are, and one says so
    assert it.due() == 60
    it.wait(60)
    assert it.messages[-1] == Message(Notice.MATCH, Datapoint(at(50), "50"), 4)
    assert it.due() is None
    assert it.match(61).left_out == [Notice.MATCH] * 2


def test_what_is_left_out_is_not_told_later_if_it_is_over() -> None:
    it = Watcher(of_datapoints=True, min_interval=60).match(0).match(10).clear(20).wait(60)
    assert it.sent == [Notice.MATCH]
    it.match(70)
    assert it.messages[-1].left_out == 1


def test_min_interval_of_states() -> None:
    it = Watcher(min_interval=60).match(0).clear(5).match(10)
    assert it.sent == [Notice.FIRING, Notice.RESOLVED]  # an end is told at once
    assert it.left_out == [Notice.FIRING]
    assert it.due() == 60
    assert it.wait(60).sent == [Notice.FIRING, Notice.RESOLVED, Notice.FIRING]


def test_after_quiet_hours_they_are_told_how_it_stands_if_it_is_something_else() -> None:
    quiet = Hush(at(100), "Quiet hours")
    it = Watcher().match(0)
    it.hush = quiet
    assert it.clear(10).match(20).wait(100).sent == [Notice.FIRING]  # it fires again, as they know
    it = Watcher().match(0)
    it.hush = quiet
    assert it.clear(10).due() == 100
    assert it.wait(100).sent == [Notice.FIRING, Notice.RESOLVED]
    it = Watcher()
    it.hush = quiet
    it.match(10)
    assert it.left_out == [Notice.FIRING]
    assert it.wait(100).sent == [Notice.FIRING]
    it = Watcher()
    it.hush = quiet
    assert it.match(10).clear(20).wait(100).sent == []
    assert it.due() is None


def test_flapping_is_one_message_and_then_quiet_until_it_is_steady() -> None:
    it = Watcher()
    for seconds in range(0, 100, 2):
        it.match(seconds).clear(seconds + 1)
    assert it.sent == [*[Notice.FIRING, Notice.RESOLVED] * (FLAP_CHANGES // 2), Notice.FLAPPING]
    assert it.it.told == Told.FLAPPING
    assert it.left_out == []
    assert it.due() == 99 + STEADY_SECONDS
    it.match(150)
    assert it.wait(99 + STEADY_SECONDS).sent[-1] == Notice.FLAPPING
    assert it.wait(150 + STEADY_SECONDS).sent[-1] == Notice.FIRING
    assert it.messages[-1].left_out > 90
    assert it.clear(1000).sent[-1] == Notice.RESOLVED


def test_flapping_that_ends_well_is_resolved() -> None:
    it = Watcher()
    for seconds in range(0, 20, 2):
        it.match(seconds).clear(seconds + 1)
    assert it.wait(19 + STEADY_SECONDS).sent[-2:] == [Notice.FLAPPING, Notice.RESOLVED]
    assert it.due() is None


def test_flapping_in_quiet_hours_makes_few_records() -> None:
    it = Watcher()
    it.hush = Hush(at(10_000), "Quiet hours")
    for seconds in range(0, 1000, 2):
        it.match(seconds).clear(seconds + 1)
    assert it.sent == []
    assert len(it.left_out) <= FLAP_CHANGES


@pytest.mark.parametrize(("state", "other"), [(s, o) for s in State for o in State if o not in ALLOWED[s]])
def test_no_other_change_is_possible(state: State, other: State) -> None:
    it = Standing(since=START, at=START, state=state)
    with pytest.raises(ValueError, match="can't go"):
        it.move(other, START, START)


@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_receivers_end_up_knowing(seed: int) -> None:
    """Random datapoints, time and hushes: once all is quiet, receivers know how it stands, and nothing was
    told twice."""
    random = Random(seed)
    policy = {"hold": random.choice([0, 0, 30]), "min_interval": random.choice([0, 0, 120])}
    it = Watcher(**policy, no_data_after=random.choice([0, 0, 300]))
    seconds = 0.0
    for _ in range(random.randint(1, 300)):
        seconds += random.expovariate(1 / random.choice([1, 10, 200]))
        if random.random() < 0.05:
            it.hush = Hush(at(seconds + random.uniform(0, 500)), "Muted")
        while (due := it.due()) is not None and due <= seconds:
            it.wait(due)
            after = it.due()
            assert after is None or after > due
        it.match(seconds) if random.random() < 0.5 else it.clear(seconds)
    for _ in range(20):
        if (due := it.due()) is None:
            break
        it.wait(due)
    assert it.due() is None
    assert (it.it.told == Told.FIRING) == it.is_in(State.FIRING)
    assert it.it.told != Told.FLAPPING
    for one, next_one in pairwise(it.sent):
        assert one != next_one
