"""The map in memory: what it learns, when it forgets, and whom it forgets when it is full."""

import pytest

from ingest.device_cache import DeviceCache, DeviceRoute
from thingscale.lib.ids import ChannelPk, DevicePk, TagPk
from thingscale.processes.change_notifications import Change

CHANNEL = ChannelPk(7)
DEVICE, OTHER, TAG = (1, "d1"), (1, "d:2"), (CHANNEL, "t")
ROUTES = {DEVICE: DeviceRoute(DevicePk(5), CHANNEL), OTHER: DeviceRoute(DevicePk(6), None)}


def devices(router: DeviceCache) -> dict[tuple[int, str], DeviceRoute]:
    found = router.devices.accounts.items()
    return {(user, name): route for user, routes in found for name, route in routes.items()}


@pytest.fixture
def known() -> DeviceCache:
    found = DeviceCache()
    found.store(found.generation, ROUTES, {1: {TAG: TagPk(9)}})
    return found


def test_it_keeps_what_it_learns(known: DeviceCache) -> None:
    assert devices(known) == ROUTES
    assert known.tags.get(1, TAG) == 9


@pytest.mark.parametrize(
    ("change", "left"),
    [
        pytest.param(("device", 1, "d1"), {OTHER}, id="that device"),
        pytest.param(("device", 1, "d:2"), {DEVICE}, id="a device id with a colon"),
        pytest.param(("device", 2, "d1"), {DEVICE, OTHER}, id="another user's device"),
        pytest.param(("tokens", 1, ""), {DEVICE, OTHER}, id="tokens"),
        pytest.param(("limits", 1, ""), {DEVICE, OTHER}, id="limits"),
        pytest.param(("devices", 1, ""), set(), id="any device"),
        pytest.param(("something new", 1, ""), set(), id="a word of a later version"),
    ],
)
def test_a_change_removes_what_it_names(
    known: DeviceCache, change: Change, left: set[tuple[int, str]]
) -> None:
    known.on_change(change)
    assert set(devices(known)) == left
    assert bool(len(known.tags)) == bool(left)


@pytest.mark.parametrize("noun", ["devices", "something new"])
def test_b4_one_accounts_changes_leave_the_others_entries(known: DeviceCache, noun: str) -> None:
    """The kind: what one account does, here deleting tags or channels in a loop, must not cost the others
    their entries."""
    known.on_change((noun, 2, ""))
    assert set(devices(known)) == {DEVICE, OTHER}
    assert known.tags.get(1, TAG) == 9


def test_a_gap_in_the_news_removes_everything(known: DeviceCache) -> None:
    known.on_change(None)
    assert not devices(known)
    assert not len(known.tags)


@pytest.mark.parametrize("change", [None, ("device", 1, "elsewhere"), ("devices", 3, "")])
def test_what_was_read_before_a_change_is_not_learned(known: DeviceCache, change: Change | None) -> None:
    before = known.generation
    known.on_change(change)
    late = CHANNEL, "late"
    known.store(before, {(1, "late"): DeviceRoute(DevicePk(8), CHANNEL)}, {1: {late: TagPk(10)}})
    assert (1, "late") not in devices(known)
    assert known.tags.get(1, late) is None


def test_b4_a_flood_of_devices_and_tags_pushes_out_its_own_accounts_entries(known: DeviceCache) -> None:
    known.devices.max_entries = known.tags.max_entries = 10
    for number in range(100):
        route = DeviceRoute(DevicePk(number), ChannelPk(8))
        tags = {(ChannelPk(8), f"t{number}"): TagPk(number)}
        known.store(known.generation, {(2, f"n{number}"): route}, {2: tags})
        assert len(known.devices) <= 10
        assert len(known.tags) <= 10
    assert set(devices(known)) >= {DEVICE, OTHER, (2, "n99")}
    assert (known.tags.get(1, TAG), known.tags.get(2, (ChannelPk(8), "t99"))) == (9, 99)
