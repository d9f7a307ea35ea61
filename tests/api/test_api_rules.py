"""/v2/rule: activation rules."""

from typing import Any

import pytest
from api_calls import Caller, document, refusal

from thingscale.accounts.models import User
from thingscale.devices.models import ActivationRule, Device
from thingscale.provisioning.tasks import activate_new_devices
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.models import Channel


def rules(api: Caller) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = document(api.get("rule"))
    return rows


def patterns(api: Caller) -> list[str]:
    found = rules(api)
    assert [rule["position"] for rule in found] == list(range(len(found)))
    return [rule["pattern"] for rule in found]


def make(api: Caller, pattern: str, **fields: Any) -> int:
    answer = api.post("rule", {"pattern": pattern, "own_channel": True} | fields)
    assert answer.status_code == 201, answer.content
    made: int = document(answer)["rule_id"]
    return made


def test_a_rule_of_each_kind(api: Caller, channel: Channel) -> None:
    own = make(api, "meter-*")
    one = document(api.post("rule", {"pattern": "*", "mapped_ch": 0}))["rule_id"]
    shown = [
        {"rule_id": own, "pattern": "meter-*", "mapped_ch": None, "own_channel": True, "position": 0},
        {"rule_id": one, "pattern": "*", "mapped_ch": 0, "own_channel": False, "position": 1},
    ]
    assert rules(api) == shown
    assert document(api.get(f"rule/{one}")) == shown[1:]
    for rule in shown:  # what a GET returned can be sent back
        assert api.put(f"rule/{rule['rule_id']}", rule).status_code == 200
    assert rules(api) == shown


def test_it_does_its_work(api: Caller, owner: User) -> None:
    make(api, "meter-*")
    Device.objects.create(user=owner, device_id="meter-1", enabled=False)
    activate_new_devices()
    (device,) = document(api.get("device/meter-1"))
    assert (device["enabled"], device["mapped_ch"]) == (True, 0)
    assert document(api.get("channel/0"))[0]["channel_name"] == "meter-1"


def test_order(api: Caller) -> None:
    a, b, c = make(api, "a"), make(api, "b"), make(api, "c")
    make(api, "d", position=0)
    assert patterns(api) == ["d", "a", "b", "c"]
    assert api.put(f"rule/{c}", {"position": 1}).status_code == 200
    assert patterns(api) == ["d", "c", "a", "b"]
    assert api.put(f"rule/{a}", {"position": 99}).status_code == 200
    assert patterns(api) == ["d", "c", "b", "a"]
    assert api.delete(f"rule/{b}").status_code == 200
    assert patterns(api) == ["d", "c", "a"]


def test_from_one_kind_to_the_other(api: Caller, channel: Channel) -> None:
    rule = make(api, "meter-*")
    for change, mapped in (
        ({"mapped_ch": 0}, 0),
        ({"own_channel": True}, None),
        ({"own_channel": "false", "mapped_ch": "0"}, 0),
        ({"own_channel": True, "mapped_ch": None}, None),
    ):
        assert api.put(f"rule/{rule}", change).status_code == 200
        (row,) = rules(api)
        assert (row["mapped_ch"], row["own_channel"]) == (mapped, mapped is None)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"pattern": "x"},
        {"own_channel": True},
        {"pattern": "", "own_channel": True},
        {"pattern": "a/b", "own_channel": True},
        {"pattern": " x", "own_channel": True},
        {"pattern": "x" * 65, "own_channel": True},
        {"pattern": "x\u0000", "own_channel": True},
        {"pattern": None, "own_channel": True},
        {"pattern": "there", "own_channel": True},
        {"pattern": "x", "own_channel": False},
        {"pattern": "x", "own_channel": True, "mapped_ch": 0},
        {"pattern": "x", "mapped_ch": -1},
        {"pattern": "x", "own_channel": "maybe"},
        {"pattern": "x", "own_channel": True, "position": -1},
        {"pattern": "x", "own_channel": True, "position": 2**31},
    ],
)
def test_what_is_refused(api: Caller, channel: Channel, body: dict[str, Any]) -> None:
    make(api, "there")
    assert refusal(api.post("rule", body)) == (400, "BAD_PARAMETER")
    assert patterns(api) == ["there"]


@pytest.mark.parametrize("change", [{"mapped_ch": None}, {"own_channel": False}, {"pattern": "other"}])
def test_a_change_that_is_refused(api: Caller, channel: Channel, change: dict[str, Any]) -> None:
    make(api, "other")
    rule = make(api, "x", own_channel=False, mapped_ch=0)
    before = rules(api)
    assert refusal(api.put(f"rule/{rule}", change)) == (400, "BAD_PARAMETER")
    assert rules(api) == before


def test_as_many_as_the_account_may_have(api: Caller, owner: User) -> None:
    User.objects.filter(pk=owner.pk).update(max_rules=1)
    make(api, "a")
    assert refusal(api.post("rule", {"pattern": "b", "own_channel": True})) == (400, "BAD_PARAMETER")


def test_an_outsider_finds_none(api: Caller, outsider: Caller, channel: Channel) -> None:
    rule = make(api, "meter-*")
    before = rules(api)
    assert rules(outsider) == []
    for call in (outsider.get, outsider.delete):
        assert refusal(call(f"rule/{rule}")) == (404, "NO_RULE")
    assert refusal(outsider.put(f"rule/{rule}", {"position": 0})) == (404, "NO_RULE")
    assert refusal(outsider.post("rule", {"pattern": "x", "mapped_ch": 0})) == (404, "NO_CHANNEL")
    assert rules(api) == before


@pytest.mark.parametrize("number", ["0", "007", "x", "-1", "9" * 30])
def test_no_such_rule(api: Caller, number: str) -> None:
    assert refusal(api.get(f"rule/{number}")) == (404, "NO_RULE")
    assert refusal(api.put(f"rule/{number}", {})) == (404, "NO_RULE")
    assert refusal(api.delete(f"rule/{number}")) == (404, "NO_RULE")


def test_it_goes_with_its_channel(api: Caller, owner: User) -> None:
    create_channel(owner, 7)
    make(api, "a", own_channel=False, mapped_ch=7)
    make(api, "b")
    assert api.delete("channel/7").status_code == 200
    assert patterns(api) == ["b"]
    assert ActivationRule.objects.count() == 1
