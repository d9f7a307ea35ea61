"""One user's topics are closed to another, and a refusal never costs the connection."""

import json
import urllib.error

import pytest
from mqtt_clients import V5_PAHO, V311_PAHO, Device, Start, gateway, rest
from paho.mqtt.enums import MQTTProtocolVersion
from stack import wait_until
from support import Account

pytestmark = pytest.mark.e2e
VERSIONS = [pytest.param(V311_PAHO, 0x80, id="3.1.1"), pytest.param(V5_PAHO, 0x87, id="5")]


@pytest.mark.parametrize("version", [V311_PAHO, V5_PAHO])
def test_a_token_signs_in_its_own_user_and_nobody_else(
    stack: Start, account: Account, outsider: Account, version: MQTTProtocolVersion
) -> None:
    running = gateway(stack)
    with Device(running, account, version=version):
        pass
    for user_id, token in (
        (outsider.user_id, account.device_token),
        (account.user_id, outsider.device_token),
        (account.user_id, account.api_token),
        (account.user_id, "0" * 32),
        ("U000000", account.device_token),
    ):
        device = Device(running, account, token=token, user_id=user_id, version=version)
        assert device.connect() != 0
        device.close()


def foreign_filters(other: Account) -> list[str]:
    token = other.device_token
    return [
        "#",
        "+/json/x",
        "+/#",
        "$SYS/#",
        f"{token}/#",
        f"{token}/d1/subscribe",
        f"$share/g/{token}/#",
        "$share/g/#",
        "$share/g/+/json/#",
        f"{other.user_id}/#",  # the account itself, not its token
        f"$share/g/{other.user_id}/#",
        token.lower() + "/#",
    ]


@pytest.mark.parametrize(("version", "failure"), VERSIONS)
def test_forbidden_subscriptions_fail_and_the_connection_stays(
    stack: Start, account: Account, outsider: Account, version: MQTTProtocolVersion, failure: int
) -> None:
    running = gateway(stack)
    account.device("x")
    filters = foreign_filters(outsider)
    with Device(running, account, version=version) as device, Device(running, outsider) as other:
        assert device.subscribe_to(filters) == [failure] * len(filters)
        assert device.subscribe_to([filters[0], device.topic("json/x"), filters[1]]) == [failure, 1, failure]
        assert other.publish("json/x", b"1") == 0
        assert other.publish("d1/subscribe", b"secret", retain=True) == 0
        assert device.publish("json/x", b"2") == 0
        assert device.payloads(1) == [b"2"]
        assert device.ended is None
    assert account.stored() == [("2", None)]


@pytest.mark.parametrize(("version", "failure"), VERSIONS)
def test_an_outsider_cannot_publish_to_anothers_topics(
    stack: Start, account: Account, outsider: Account, version: MQTTProtocolVersion, failure: int
) -> None:
    running = gateway(stack)
    account.device("d1")
    topics = [f"{account.device_token}/{rest}" for rest in ("json/d1", "d1", "d1/subscribe", "state/d1")]
    topics.append(f"{account.user_id}/d1/subscribe")
    refused = 0x87 if version == V5_PAHO else 0
    with Device(running, account) as mine, Device(running, outsider, version=version) as other:
        assert mine.subscribe("#") == [1]
        for topic in topics:
            assert other.publish_to(topic, b"1", 1) == refused
            assert other.publish_to(topic, b"1", 1, True) == refused
        assert other.publish_to(topics[2], b"1", 2) in {refused, 0x92}  # paho goes on after a failed PUBREC
        assert mine.publish("json/d1", b'"mine"') == 0
        assert mine.payloads(1) == [b'"mine"']
        with Device(running, account) as late:
            assert late.subscribe("#") == [1]
            assert late.publish("json/d1", b'"late"') == 0
            assert late.payloads(1) == [b'"late"']
    assert account.stored() == [('"mine"', None), ('"late"', None)]
    assert account.user.rejected.count() == 0
    recorded = outsider.user.rejected.values_list("reason", "device_id")
    assert set(recorded) == {("AUTH_REQUIRED", "d1")}
    assert len(recorded) == 2 * len(topics) + 1
    assert json.loads(rest(running, account, "device/d1"))[0].get("state") is None


@pytest.mark.parametrize("retain", [False, True], ids=["will", "retained will"])
def test_an_outsiders_will_does_not_reach_another(
    stack: Start, account: Account, outsider: Account, retain: bool
) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account) as mine:
        assert mine.subscribe("#") == [1]
        for number, rest_ in enumerate(("json/d1", "d1/subscribe")):
            other = Device(running, outsider, str(number))
            other.client.will_set(mine.topic(rest_), b"1", 1, retain)
            with other:
                other.vanish()
        wait_until(lambda: outsider.user.rejected.count() == 2, what="the recorded wills")
        assert mine.publish("json/d1", b'"mine"') == 0
        assert mine.payloads(1) == [b'"mine"']
    assert account.stored() == [('"mine"', None)]


def test_an_outsider_sees_nothing_over_rest(stack: Start, account: Account, outsider: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account) as device:
        assert device.publish("json/d1", b"1") == 0
    for path in ("device", "channel"):
        assert json.loads(rest(running, account, path)) != []
        assert json.loads(rest(running, outsider, path)) == []
    for path in ("device/d1", "channel/0", "stream/0"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            rest(running, outsider, path, X_ENDTIME="last")
        assert refused.value.code == 404
        refused.value.close()


def test_the_same_share_group_of_two_accounts_is_two_groups(
    stack: Start, account: Account, outsider: Account
) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "mine") as mine, Device(running, outsider, "theirs") as theirs:
        for device in (mine, theirs):
            assert device.subscribe_to([f"$share/g/{device.token}/json/#"]) == [1]
        for number in range(20):
            mine.publish("json/d1", b"%d" % number)
        assert len(mine.payloads(20)) == 20
        assert theirs.messages == []


def test_two_filters_in_one_share_group_do_not_mix(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "data") as data, Device(running, account, "commands") as commands:
        assert data.subscribe_to([f"$share/g/{data.token}/json/#"]) == [1]
        assert commands.subscribe_to([f"$share/g/{data.token}/+/subscribe"]) == [1]
        for number in range(10):
            data.publish("json/d1", b"%d" % number)
        assert len(data.payloads(10)) == 10
        assert commands.messages == []
