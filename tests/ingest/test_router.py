"""The map in memory: what it learns, and when it forgets."""

import pytest

from ingest import router
from ingest.router import Route, Router
from thingscale.invalidation import Change

DEVICE, OTHER, TAG = (1, "d1"), (1, "d:2"), (7, "t")


@pytest.fixture
def known() -> Router:
    found = Router()
    found.learn(found.generation, {DEVICE: Route(5, 7), OTHER: Route(6, None)}, {TAG: 9})
    return found


def test_it_keeps_what_it_learns(known: Router) -> None:
    assert known.devices == {DEVICE: Route(5, 7), OTHER: Route(6, None)}
    assert known.tags == {TAG: 9}


@pytest.mark.parametrize(
    ("change", "left"),
    [
        pytest.param(("device", 1, "d1"), {OTHER}, id="that device"),
        pytest.param(("device", 1, "d:2"), {DEVICE}, id="a device id with a colon"),
        pytest.param(("device", 2, "d1"), {DEVICE, OTHER}, id="another user's device"),
        pytest.param(("tokens", 1, ""), {DEVICE, OTHER}, id="tokens"),
        pytest.param(("devices", 1, ""), set(), id="any device"),
        pytest.param(("something new", 1, ""), set(), id="a word of a later version"),
    ],
)
def test_a_change_removes_what_it_names(known: Router, change: Change, left: set[router.DeviceKey]) -> None:
    known.on_change(change)
    assert set(known.devices) == left
    assert bool(known.tags) == bool(left)


def test_a_gap_in_the_news_removes_everything(known: Router) -> None:
    known.on_change(None)
    assert not known.devices
    assert not known.tags


@pytest.mark.parametrize("change", [None, ("device", 1, "elsewhere"), ("devices", 3, "")])
def test_what_was_read_before_a_change_is_not_learned(known: Router, change: Change | None) -> None:
    before = known.generation
    known.on_change(change)
    known.learn(before, {(1, "late"): Route(8, 7)}, {(7, "late"): 10})
    assert (1, "late") not in known.devices
    assert (7, "late") not in known.tags


def test_it_stays_bounded(known: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "MAX_ENTRIES", 10)
    for number in range(100):
        known.learn(known.generation, {(1, f"n{number}"): Route(number, 7)}, {})
        assert len(known.devices) + len(known.tags) <= 11
    assert (1, "n99") in known.devices
