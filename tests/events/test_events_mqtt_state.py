"""How it stands with an event is a retained message of TOKEN/events/EVENT_ID."""

import json
from typing import Any

import psycopg
import pytest
from support import Account
from watching import CLEARED, ago, hot, saw

from thingscale.devices import mqtt_client
from thingscale.devices.models import Published
from thingscale.events import advance, mqtt_state
from thingscale.events.actions import delete_event, update_event
from thingscale.events.models import Condition, Incident


def published() -> list[tuple[int, str, Any]]:
    rows = list(Published.objects.order_by("pk"))
    Published.objects.all().delete()
    assert all(row.retain and row.qos == 1 for row in rows)
    return [(row.account_id, row.topic, json.loads(bytes(row.payload) or b"null")) for row in rows]


def test_it_is_published_when_it_changes_and_not_with_each_match(
    account: Account, connection: psycopg.Connection
) -> None:
    devices = [account.device(f"d{n}").pk for n in range(30)]
    event = hot(account, description="Too hot")
    for n, device in enumerate(devices):
        saw(event, value=f'"h{n}"' if n else 31.5, device=device, at=ago(100 - n))
    advance.advance(connection)
    ((user, topic, said),) = published()
    assert (user, topic) == (account.user.pk, "events/1")
    conditions = said.pop("conditions")
    assert said == {
        "event_id": 1,
        "description": "Too hot",
        "severity": "warning",
        "state": "firing",
        "counts": {"firing": 30, "pending": 0, "no data": 0},
    }
    assert [each["device_id"] for each in conditions] == [f"d{n}" for n in range(29, 9, -1)]
    assert (conditions[0]["current"], conditions[0]["tag"]) == ("h29", None)
    saw(event, device=devices[0])
    advance.advance(connection)
    assert published() == []
    for device in devices:
        saw(event, CLEARED, 20, device=device)
    advance.advance(connection)
    ((_, _, said),) = published()
    assert (said["state"], said["conditions"]) == ("ok", [])


def test_an_event_that_was_changed_begins_anew(account: Account, connection: psycopg.Connection) -> None:
    event = hot(account)
    saw(event)
    advance.advance(connection)
    published()
    update_event(event, {"description": "Hot", "severity": "critical"})
    assert Condition.objects.get().state == "firing"
    saw(event)  # and is not followed before it is another event
    update_event(event, {"threshold": "40"})
    assert Incident.objects.get().over == "changed"
    assert not Condition.objects.exists()
    ((_, _, said),) = published()
    assert said["state"] == "ok"
    assert advance.advance(connection) == 1
    assert not Condition.objects.exists()
    saw(event)
    advance.advance(connection)
    assert Condition.objects.get().state == "firing"


def test_a_deleted_event_has_none(account: Account, connection: psycopg.Connection) -> None:
    event = hot(account)
    saw(event)
    advance.advance(connection)
    published()
    delete_event(event)
    assert published() == [(account.user.pk, "events/1", None)]
    assert Incident.objects.get().over == "changed"
    assert not Condition.objects.exists()


def test_in_broker_mode_the_newest_goes_to_the_broker_once_it_is_there(
    account: Account, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = hot(account)
    saw(event, at=ago(10))
    advance.advance(connection)
    saw(event, CLEARED, 3)
    advance.advance(connection)

    def away(*_: Any, **__: Any) -> None:
        raise mqtt_client.Unavailable

    monkeypatch.setattr(mqtt_client, "publish", away)
    with pytest.raises(mqtt_client.Unavailable):
        mqtt_state.relay(connection)
    sent: list[Any] = []
    monkeypatch.setattr(mqtt_client, "publish", lambda *message, retain: sent.append((*message, retain)))
    mqtt_state.relay(connection)
    mqtt_state.relay(connection)
    ((topic, payload, qos, retain),) = sent
    assert (topic, qos, retain) == (f"{account.device_token}/events/1", 1, True)
    assert json.loads(payload)["state"] == "ok"
