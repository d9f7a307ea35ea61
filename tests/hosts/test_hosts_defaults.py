"""The events that every server should have, made with one press."""

from collections.abc import Callable
from typing import Any

import host_samples as samples
import pytest
from support import Account

from thingscale.accounts.models import User
from thingscale.devices.models import Device
from thingscale.events.actions import delete_event, update_event
from thingscale.events.evaluate import Rule
from thingscale.events.models import Event
from thingscale.hosts.defaults import Name, make, missing, offered
from thingscale.hosts.look import find
from thingscale.hosts.models import Host
from thingscale.provisioning.accounts import change_account

MakeHost = Callable[..., Device]


def hosts(account: Account) -> list[Host]:
    return list(Host.objects.for_account(account.user).with_device().order_by("pk"))


def with_certificate() -> list[tuple[str, Any]]:
    checks = {"failed": 0, "certificate_days": 50}
    return [("", samples.AGENT[0][1] | {"checks": checks})]


@pytest.fixture
def agent(account: Account, host: MakeHost) -> Account:
    host(account, "web-1", with_certificate(), channel=1)
    host(account, "web-2", with_certificate(), channel=2)
    find()
    return account


def test_pressing_twice_makes_none_twice(agent: Account) -> None:
    first, second = hosts(agent)
    assert make(agent.user, [first], Name).made == 7
    assert make(agent.user, [first], Name) == (0, 7, 0)
    assert make(agent.user, [first, second], Name).made == 7
    found = Event.objects.for_account(agent.user).filter(mapped_channel=agent.channel(1))
    assert sorted(found.values_list("source", "kind", "threshold")) == [
        ("checks:certificate_days", "threshold", "14"),
        ("cpu:idle", "threshold", "5"),
        ("disk:fullest", "threshold", "90"),
        ("disk:fullest", "trend", "100"),
        ("swap:percent", "threshold", "10"),
        ("units:failed", "threshold", "0"),
    ]
    silence = Event.objects.for_account(agent.user).filter(kind="silence").values_list("devices", flat=True)
    assert sorted(silence) == ["web-1", "web-2"]
    for event in Event.objects.exclude(kind="silence"):  # each is one that does something
        Rule.of(
            *(event.pk, event.kind, event.source, event.operator, event.threshold),
            clear=event.clear,
            window=event.window,
            period=event.period,
        )


def test_what_was_changed_stays_and_what_was_deleted_comes_back(agent: Account) -> None:
    make(agent.user, hosts(agent)[:1], Name)
    update_event(Event.objects.get(source="cpu:idle"), {"threshold": "20", "description": "Mine"})
    delete_event(Event.objects.get(source="swap:percent"))
    assert make(agent.user, hosts(agent)[:1], Name).made == 1
    assert Event.objects.get(source="cpu:idle").threshold == "20"


def test_an_account_of_servwatch_has_one_for_the_silence_of_all(agent: Account) -> None:
    change_account(agent.user, {"kind": "servwatch"})
    agent.user.refresh_from_db()
    assert make(agent.user, hosts(agent), [Name.SILENCE]).made == 1
    assert Event.objects.get().devices == "*"
    assert make(agent.user, hosts(agent), [Name.SILENCE]).made == 0


def test_no_more_than_the_account_may_have(agent: Account) -> None:
    User.objects.filter(pk=agent.user.pk).update(max_events=3)
    agent.user.refresh_from_db()
    made = make(agent.user, hosts(agent), Name)
    assert (made.made, made.left_out) == (3, 11)


def test_of_other_programs_what_can_be_told_apart(account: Account, host: MakeHost) -> None:
    """Of Telegraf `used_percent` is of memory, swap and disks alike; `usage_idle` also of each core."""
    host(account, "db-1", samples.TELEGRAF, channel=1)
    host(account, "vm", samples.GLANCES, channel=2)
    find()
    telegraf, glances = hosts(account)
    assert {name for name, fields in missing(account.user, [telegraf]).items() if fields} == {Name.SILENCE}
    found = missing(account.user, [glances])
    assert [fields["source"] for fields in found[Name.CPU]] == ["idle"]
    assert sorted(fields["source"] for fields in found[Name.DISK]) == ["/.percent", "/srv/data.percent"]
    assert found[Name.SWAP] == found[Name.UNIT] == []
    assert offered([telegraf])[Name.SILENCE]
    assert not offered([telegraf])[Name.DISK]
