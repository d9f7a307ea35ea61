"""Devices that are not heard for too long, as an event watches them."""

from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from django.utils import timezone
from silent_world import (
    GATEWAY,
    WEB,
    hear,
    listened,
    listens,
    pass_,
    quiet,
    said,
    silent_ones,
)
from support import Account, make_account

from thingscale.devices import listening
from thingscale.devices.actions import delete_device
from thingscale.devices.listening import Door
from thingscale.devices.models import Activity, Device, Listening
from thingscale.events import advance, silence
from thingscale.events.actions import delete_event, update_event
from thingscale.events.models import Condition, Event, Incident, Observation, SilenceRule, SilenceWatch

ON, OFF = 1, 0
RETURN = int(listening.RETURN.total_seconds())


@pytest.fixture
def device(account: Account, connection: psycopg.Connection) -> Device:
    """It is watched, the platform has listened for a day, and it was heard just now."""
    found = account.device("d1")
    listens()
    listened(86_400)
    hear(found)
    return found


def test_it_fires_once_and_recovers_once(
    connection: psycopg.Connection, account: Account, device: Device
) -> None:
    event = quiet(account)
    assert said(connection) == []
    listened(89)
    assert said(connection) == []
    listened(2)
    assert said(connection) == [("d1", ON)]
    assert silent_ones() == {"d1"}
    for _ in range(5):
        listened(3600)
        assert said(connection) == []
    hear(device)
    found = [said(connection) for _ in range(10)]  # of those that are silent for long, one in ten a look
    assert sorted(found)[-1] == [("d1", OFF)]
    assert sum(map(len, found)) == 1
    assert not silent_ones()
    listened(80)
    assert said(connection) == []
    listened(20)
    assert said(connection) == [("d1", ON)]
    assert SilenceWatch.objects.get().event == event.pk


def test_what_is_said(connection: psycopg.Connection, account: Account, device: Device) -> None:
    event = quiet(account)
    last = Activity.objects.get().last_seen
    listened(100)
    silence.look(connection)
    observed = Observation.objects.get()
    assert (observed.event, observed.device, observed.tag, observed.what) == (event.pk, device.pk, 0, ON)
    assert observed.account == account.user.pk
    assert observed.value == f"not heard since {last - timedelta(seconds=100):%Y-%m-%dT%H:%M:%SZ}"
    assert abs(observed.at - (last - timedelta(seconds=10))) < timedelta(seconds=0.01)
    hear(device)
    silence.look(connection)
    again = Observation.objects.latest("pk")
    assert (again.what, again.at) == (OFF, Activity.objects.get().last_seen)
    assert again.value == f"heard again at {again.at:%Y-%m-%dT%H:%M:%SZ}"


def test_who_was_never_heard_is_not_silent(connection: psycopg.Connection, account: Account) -> None:
    device = account.device("d1")
    listens()
    quiet(account)
    for _ in range(5):
        listened(3600)
        assert said(connection) == []
    hear(device)
    listened(95)
    assert said(connection) == [("d1", ON)]


def states() -> list[str]:
    return list(Condition.objects.order_by("device").values_list("state", flat=True))


def follow(connection: psycopg.Connection) -> list[str]:
    """Looks, lets the conditions follow, and returns them."""
    silence.look(connection)
    while advance.advance(connection):
        pass
    return states()


def test_never_heard_is_a_state_of_its_own(connection: psycopg.Connection, account: Account) -> None:
    device, removed = account.device("d1"), account.device("d2")
    listens()
    event = quiet(account)
    assert follow(connection) == ["no data", "no data"]
    update_event(event, {"period": 61})  # which forgets them
    assert states() == []
    assert follow(connection) == ["no data", "no data"]
    hear(device)
    listened(92)
    Device.objects.filter(pk=removed.pk).update(enabled=False)
    assert follow(connection) == ["firing", "ok"]
    hear(device)
    assert follow(connection) == ["ok", "ok"]
    assert Incident.objects.count() == 1


def test_whatever_is_changed_of_an_event_it_fires_again(
    connection: psycopg.Connection, account: Account, device: Device
) -> None:
    event = quiet(account)
    listened(100)
    assert follow(connection) == ["firing"]
    for change in ({"hold": 5}, {"hold": 0}, {"grace": 29}, {"enabled": False}, {"enabled": True}):
        update_event(event, change)
        assert states() == []
        found = follow(connection)
    assert found == ["firing"]
    assert Incident.objects.filter(ended_at=None).count() == 1


def test_which_devices_are_watched(connection: psycopg.Connection, account: Account) -> None:
    listens()
    other = make_account("other@example.com")
    channel = account.channel(5)
    for name, number in (("a1", 5), ("a2", None), ("b%1", 5), ("bx1", 5)):
        hear(account.device(name, number))
    hear(other.device("a1"))
    disabled = account.device("a3")
    Device.objects.filter(pk=disabled.pk).update(enabled=False)
    hear(disabled)
    of_all, of_channel, of_pattern, of_both = (
        quiet(account, **fields)
        for fields in (
            {},
            {"mapped_channel": channel},
            {"devices": "a?"},
            {"devices": "b%*", "mapped_channel": channel},
        )
    )
    quiet(account, enabled=False)
    said(connection)
    names = dict(Device.objects.filter(user=account.user).values_list("pk", "device_id"))

    def watched(event: Event) -> set[str]:
        found = SilenceWatch.objects.filter(event=event.pk).values_list("device", flat=True)
        return {names[pk] for pk in found}

    assert watched(of_all) == {"a1", "a2", "b%1", "bx1"}
    assert watched(of_channel) == {"a1", "b%1", "bx1"}
    assert watched(of_pattern) == {"a1", "a2"}
    assert watched(of_both) == {"b%1"}
    assert SilenceRule.objects.count() == 4


@pytest.mark.parametrize("change", ["disabled", "deleted", "renamed", "moved", "event off", "event deleted"])
def test_what_is_not_watched_any_more_is_not_silent(
    connection: psycopg.Connection, account: Account, device: Device, change: str
) -> None:
    channel = account.channel(5)
    Device.objects.update(mapped_channel=channel)
    event = quiet(account, devices="d*", mapped_channel=channel)
    listened(100)
    assert said(connection) == [("d1", ON)]
    name, devices = "d1", Device.objects.filter(pk=device.pk)
    match change:
        case "disabled":
            devices.update(enabled=False)
        case "deleted":
            name = f"{device.pk}"
            delete_device(device)
        case "renamed":
            name = "e1"
            devices.update(device_id="e1")
        case "moved":
            devices.update(mapped_channel=account.channel(6))
        case "event off":
            update_event(event, {"enabled": False})
        case "event deleted":
            delete_event(event)
    assert said(connection) == [(name, OFF)]
    assert not silent_ones()
    listened(10_000)
    assert said(connection) == []
    assert not SilenceWatch.objects.exists()


def test_an_event_that_changes(connection: psycopg.Connection, account: Account, device: Device) -> None:
    event = quiet(account, period=3600)
    listened(100)
    assert said(connection) == []
    update_event(event, {"period": 60})
    assert said(connection) == [("d1", ON)]
    update_event(event, {"grace": 31})
    assert said(connection) == [("d1", ON)]  # again, for whoever has forgotten
    update_event(event, {"period": 3600})
    assert said(connection) == [("d1", OFF)]
    update_event(event, {"devices": "e*"})
    assert said(connection) == []
    update_event(event, {"devices": "d?", "period": 60})
    assert said(connection) == [("d1", ON)]


def test_a_device_that_comes_later(connection: psycopg.Connection, account: Account, device: Device) -> None:
    quiet(account)
    assert said(connection) == []
    second = account.device("d2")
    hear(second)
    listened(50)
    hear(device)
    assert said(connection) == []
    listened(45)
    assert said(connection) == [("d2", ON)]


def test_a_device_that_two_events_watch(
    connection: psycopg.Connection, account: Account, device: Device
) -> None:
    early, late = quiet(account), quiet(account, period=600)
    said(connection)
    listened(100)
    assert said(connection) == [("d1", ON)]
    listened(1000)
    assert said(connection) == [("d1", ON)]
    delete_event(early)
    assert said(connection) == [("d1", OFF)]
    assert silent_ones() == {"d1"}
    delete_event(late)
    assert said(connection) == [("d1", OFF)]
    assert not silent_ones()


# Our own outages


def test_while_nobody_listens_no_device_is_silent(
    connection: psycopg.Connection, account: Account, device: Device
) -> None:
    quiet(account)
    said(connection)
    pass_(8 * 3600)
    assert said(connection) == []
    assert not Listening.objects.exists()
    listens()
    for _ in range(3):
        assert said(connection) == []
        listened(RETURN / 3 + 29)
    assert said(connection) == []
    listened(10)
    assert said(connection) == [("d1", ON)]


def test_a_device_that_was_silent_before_stays_so(
    connection: psycopg.Connection, account: Account, device: Device
) -> None:
    quiet(account)
    listened(100)
    assert said(connection) == [("d1", ON)]
    pass_(600)
    listens()
    assert said(connection) == []
    assert silent_ones() == {"d1"}


def test_a_gateway_that_is_killed_loses_what_it_heard_last(
    connection: psycopg.Connection, account: Account, device: Device
) -> None:
    other = UUID(int=3)
    listens((other, Door.MQTT))
    quiet(account, 10, 0)
    said(connection)
    listened(8)
    killed = Listening.objects.get(pk=GATEWAY)
    listened(4)
    Listening.objects.filter(pk=GATEWAY).update(at=killed.at - timedelta(seconds=4))
    Listening.objects.filter(pk=GATEWAY).update(until=killed.until - timedelta(seconds=4))
    assert said(connection) == []  # who knows what it has not written yet
    pass_(7)
    listens((other, Door.MQTT))
    assert said(connection) == []
    assert set(Listening.objects.filter(door=Door.MQTT).values_list("pk", flat=True)) == {other}
    listened(RETURN + 8)
    assert said(connection) == []
    listened(3)
    assert said(connection) == [("d1", ON)]


@pytest.mark.parametrize(("door", "silent"), [(Door.MQTT, True), (Door.HTTP, False)])
def test_each_door_has_its_outages(
    connection: psycopg.Connection, account: Account, device: Device, door: Door, silent: bool
) -> None:
    """The web process is away for an hour."""
    hear(device, door=door)
    quiet(account)
    said(connection)
    listened(60)
    Listening.objects.filter(pk=WEB).delete()
    for _ in range(12):
        listened(5)
        said_now = said(connection)
        if said_now:
            break
    pass_(0)
    assert (said_now == [("d1", ON)]) is silent


def test_what_a_slow_writer_has_not_written_may_have_been_heard(
    connection: psycopg.Connection, account: Account, device: Device
) -> None:
    quiet(account)
    said(connection)
    listened(95)
    Listening.objects.filter(pk=GATEWAY).update(until=timezone.now() - timedelta(seconds=10))
    assert said(connection) == []
    Listening.objects.filter(pk=GATEWAY).update(until=timezone.now() - timedelta(seconds=2))
    pass_(0.6)
    assert said(connection) == [("d1", ON)]


def test_a_restart_every_night_hides_no_silence_of_days(
    connection: psycopg.Connection, account: Account, device: Device
) -> None:
    """Also not the first night, and each restart takes its own time only."""
    quiet(account, 2 * 86_400, 3600)
    nights = 0
    while not (found := said(connection)) and nights < 10:
        listened(86_400)
        pass_(60)
        listens()
        nights += 1
    assert found == [("d1", ON)]
    assert nights == 4


@pytest.mark.parametrize("hours", [1, -1])
def test_a_step_of_the_clock_is_no_silence(
    connection: psycopg.Connection, account: Account, device: Device, hours: int
) -> None:
    other = account.device("d2")
    hear(other)
    quiet(account)
    said(connection)
    listened(50)
    assert said(connection) == []
    pass_(hours * 3600)
    assert said(connection) == []  # before the first mark
    listens()
    assert said(connection) == []
    for _ in range(8):
        hear(other)
        listened(20)
        assert said(connection) == []
    for _ in range(6):
        hear(other)
        listened(20)
        if found := said(connection):
            break
    assert found == [("d1", ON)]
    hear(device)
    assert said(connection) == [("d1", OFF)]


def test_the_worker_was_away_for_an_hour(
    connection: psycopg.Connection, account: Account, device: Device
) -> None:
    other = account.device("d2")
    hear(other)
    quiet(account)
    said(connection)
    listened(3600)
    hear(other)
    assert said(connection) == [("d1", ON)]


def test_a_device_heard_by_the_release_before(
    connection: psycopg.Connection, account: Account, device: Device
) -> None:
    hear(device, door=None)
    quiet(account)
    said(connection)
    listened(95)
    assert said(connection) == [("d1", ON)]
