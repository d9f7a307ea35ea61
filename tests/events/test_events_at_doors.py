"""What events see in datapoints that do not come through the ingest writer: REST, and held messages."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from support import Account, make_account

from thingscale.devices.models import Device, HeldMessage
from thingscale.events import observe
from thingscale.events.actions import create_event
from thingscale.events.budget import Budget
from thingscale.events.models import Condition, Event, Observation
from thingscale.processes.wake_up import WAKE_UP
from thingscale.provisioning.actions import configure_device
from thingscale.streams.models import Tag

MATCHED, CLEARED, LEFT_OUT = Observation.What.MATCHED, Observation.What.CLEARED, Observation.What.LEFT_OUT


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many observations there were at each signal."""
    found: list[int] = []
    monkeypatch.setattr(WAKE_UP, "events", lambda: found.append(len(seen())))
    return found


def watch(account: Account, **fields: Any) -> Event:
    standard = {"mapped_channel": account.channel(0), "source": "t", "operator": ">", "threshold": "30"}
    return create_event(account.user, standard | fields)


def seen() -> list[tuple[int, str]]:
    return list(Observation.objects.order_by("id").values_list("what", "value"))


def post(account: Account, body: Any, channel: int = 0, **headers: str) -> int:
    sent = {name.replace("_", "-"): text for name, text in headers.items()}
    status: int = (
        Client()
        .post(
            f"/v2/stream/{channel}",
            json.dumps(body),
            content_type="application/json",
            headers={"X-APITOKEN": account.api_token} | sent,
        )
        .status_code
    )
    return status


def test_rest_one_and_many(account: Account, woken: list[int]) -> None:
    event = watch(account)
    assert post(account, {"value": {"t": 20}}) == 201
    assert woken == []
    assert post(account, {"value": {"t": 31}}) == 201
    assert woken == [1]
    now = int(timezone.now().timestamp())
    array = [{"value": {"t": t}, "at": now - ago} for t, ago in ((32, 3), (1, 2), (33, 1), (9, 4))]
    assert post(account, array) == 201
    assert seen() == [(MATCHED, "31"), (CLEARED, "9"), (MATCHED, "32"), (CLEARED, "1"), (MATCHED, "33")]
    assert woken == [1, 5]
    assert set(Observation.objects.values_list("event", "device", "tag")) == {(event.pk, 0, 0)}


def test_rest_with_tags_and_a_key(account: Account) -> None:
    watch(account)
    body = [{"value": {"t": 31}, "tag": "a"}, {"value": {"t": 32}}, {"value": {"t": 1}, "tag": "b"}]
    for _ in range(3):
        assert post(account, body, Idempotency_Key="k") == 201
    tag = Tag.objects.get(name="a").pk
    assert seen() == [(MATCHED, "31"), (MATCHED, "32")]
    assert set(Observation.objects.values_list("tag", flat=True)) == {tag, 0}
    assert post(account, [{"value": {"t": 99}}], Idempotency_Key="k") == 422
    assert len(seen()) == 2


def test_rest_that_stores_nothing_is_not_seen(account: Account, woken: list[int]) -> None:
    watch(account)
    assert post(account, [{"value": {"t": 31}}, {"value": None}]) == 400
    assert post(account, [{"value": {"t": 31}}, {"value": {"t": 1e308}}, {"value": "\0"}]) == 400
    assert post(account, {"value": {"t": 31}}, channel=9) == 404
    assert post(make_account("other@example.com"), {"value": {"t": 31}}) == 404
    assert seen() == []
    assert woken == []


def test_rest_backfill_is_not_seen(account: Account) -> None:
    watch(account)
    at = int((timezone.now() - timedelta(hours=1)).timestamp())
    assert post(account, [{"value": {"t": 31}, "at": at}, {"value": {"t": 32}}]) == 201
    assert seen() == [(MATCHED, "32")]


def test_rest_clears_what_any_process_has_opened(account: Account) -> None:
    event = watch(account)
    now = timezone.now()
    Condition.objects.create(event=event, state="firing", since=now, at=now)
    assert post(account, [{"value": {"t": 2}}, {"value": {"t": 1}}]) == 201
    assert seen() == [(CLEARED, "2")]


def test_rest_of_an_account_with_too_many_matches(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget goes on from one request to the next."""
    monkeypatch.setattr(observe, "MATCHES", Budget(3, 1))
    event = watch(account)
    for _ in range(2):
        post(account, [{"value": {"t": 31}}, {"value": {"t": 32}}])
    found = list(Observation.objects.order_by("id").values_list("event", "what", "count"))
    assert found == [(event.pk, MATCHED, 1)] * 3 + [(event.pk, LEFT_OUT, 1)]


def hold(device: Device, *values: Any, minutes: int = 0) -> None:
    at = timezone.now() - timedelta(minutes=minutes)
    for value in values:
        HeldMessage.objects.create(device=device, value=value, received_at=at)


def test_held_messages_are_seen_when_they_are_stored(account: Account, woken: list[int]) -> None:
    device, other = account.device("room-1", None), account.device("hall-1", None)
    watch(account, devices="room-*")
    hold(device, {"t": 99}, minutes=60)  # too late
    hold(device, {"t": 31}, {"t": 1})
    hold(other, {"t": 32})
    assert seen() == []
    for each in (device, other):
        configure_device(each, {"mapped_channel": account.channel(0)})
    assert len(account.stored()) == 4
    assert seen() == [(MATCHED, "31"), (CLEARED, "1")]
    assert set(Observation.objects.values_list("device", flat=True)) == {device.pk}
    assert woken == [2]


def test_a_held_message_that_finds_no_channel_is_not_seen(account: Account) -> None:
    device = account.device("d1", None)
    watch(account)
    hold(device, {"t": 31})
    configure_device(device, {"description": "x"})
    assert seen() == []
