"""POST /v2/stream/{channel} with an Idempotency-Key."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from api_calls import Caller, document, refusal
from django.db import connections
from django.utils import timezone
from pytest_django import Settings

from thingscale.accounts.models import User
from thingscale.streams.exactly_once.idempotent_requests import delete_old
from thingscale.streams.models import Channel, Latest, Submitted

SEVERAL = [{"value": 1}, {"value": 2, "tag": "t"}, {"value": 3}]


def stored() -> int:
    return sum(Latest.objects.values_list("count", flat=True))


def post(api: Caller, body: Any, key: str, channel: int = 0) -> tuple[int, Any]:
    response = api.post(f"stream/{channel}", body, Idempotency_Key=key)
    return response.status_code, document(response)


@pytest.mark.parametrize(
    "body",
    [
        {"value": 1},
        SEVERAL,
        {"value": 1, "at": "2010-01-01 00:00"},
        [{"value": 1, "at": "2010-01-01 00:00"}, {"value": 1, "at": "2015-01-01 00:00"}, {"value": 3}],
    ],
)
def test_sent_again_is_stored_once(api: Caller, channel: Channel, body: Any) -> None:
    count = len(body) if isinstance(body, list) else 1
    for _ in range(3):
        assert post(api, body, "key") == (201, {"stored": count})
        assert stored() == count


def test_another_key_is_another_request(api: Caller, channel: Channel) -> None:
    for key in ("a", "b"):
        assert post(api, {"value": 1}, key) == (201, {"stored": 1})
    assert stored() == 2


@pytest.mark.parametrize(
    "another",
    [
        {"value": 9},
        [{"value": 1}],
        {"value": 1, "tag": "t"},
        {"value": 1, "at": "2020-01-01 00:00"},
        {"value": 1.0},
        {"value": "1"},
        [],
    ],
)
def test_d1_a_key_with_another_body_is_refused_and_never_answered_as_stored(
    api: Caller, channel: Channel, another: Any
) -> None:
    """A counter that restarts at a reboot, and whatever else uses a key twice."""
    assert post(api, {"value": 1}, "key") == (201, {"stored": 1})
    response = api.post("stream/0", another, Idempotency_Key="key")
    assert refusal(response) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert "key of its own" in document(response)["detail"]
    assert stored() == 1
    assert post(api, {"value": 1}, "key") == (201, {"stored": 1}), "the first one is still known"
    assert stored() == 1


def test_d1_two_bodies_under_one_key_at_the_same_moment(
    api: Caller, owner: User, channel: Channel, transactional_db: None
) -> None:
    def send(number: int) -> int:
        try:
            return post(Caller(owner, api.token), {"value": number % 2}, "key")[0]
        finally:
            connections["default"].close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(send, range(8))) == [201] * 4 + [422] * 4
    assert stored() == 1


def test_a_key_belongs_to_its_channel(api: Caller, channel: Channel, outsider: Caller) -> None:
    api.post("channel/1")
    outsider.post("channel/0")
    for caller, number in ((api, 0), (api, 1), (outsider, 0)):
        assert post(caller, {"value": 1}, "key", number) == (201, {"stored": 1})
    assert stored() == 3


def test_what_was_refused_is_not_remembered(api: Caller, channel: Channel) -> None:
    response = api.post("stream/0", {"value": None}, Idempotency_Key="key")
    assert refusal(response) == (400, "BAD_PARAMETER")
    assert post(api, {"value": 1}, "key") == (201, {"stored": 1})
    assert stored() == 1


def test_a_key_is_remembered_as_long_as_the_setting_says(
    api: Caller, channel: Channel, settings: Settings
) -> None:
    """By its arrival, whatever time its datapoint has."""
    assert post(api, {"value": 1, "at": "2020-01-01 00:00"}, "key")[0] == 201
    Submitted.objects.update(arrived_at=timezone.now() - timedelta(seconds=100))
    post(api, {"value": 1, "at": "2020-01-01 00:00"}, "key")
    assert stored() == 1
    settings.DEDUPE_SECONDS = 90
    assert post(api, {"value": 2}, "key") == (201, {"stored": 1}), "another body, past the window"
    assert stored() == 2
    delete_old()
    assert Submitted.objects.count() == 1
    settings.DEDUPE_SECONDS = 0
    delete_old()
    assert not Submitted.objects.exists()


def test_what_the_release_before_has_stored_is_recognised(api: Caller, channel: Channel) -> None:
    """It leaves keys in datapoints only. With another body, nothing is lost."""
    for key in ("one", "three", "other"):
        post(api, SEVERAL if key == "three" else {"value": 1}, key)
    Submitted.objects.all().delete()
    assert post(api, {"value": 1}, "one") == (201, {"stored": 1})
    assert post(api, SEVERAL, "three") == (201, {"stored": 3})
    assert stored() == 5
    assert post(api, {"value": 2}, "other") == (201, {"stored": 1})
    assert stored() == 6


def test_a_key_too_long(api: Caller, channel: Channel) -> None:
    assert post(api, {"value": 1}, "k" * 255)[0] == 201
    response = api.post("stream/0", {"value": 1}, Idempotency_Key="k" * 256)
    assert refusal(response) == (400, "BAD_PARAMETER")
    assert document(response)["detail"].startswith("Idempotency-Key: ")


@pytest.mark.django_db(transaction=True)
def test_sent_at_the_same_moment_is_stored_once(api: Caller, owner: User, channel: Channel) -> None:
    def send(_: int) -> tuple[int, Any]:
        try:
            return post(Caller(owner, api.token), SEVERAL, "key")
        finally:
            connections["default"].close()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(send, range(8))) == [(201, {"stored": 3})] * 8
    assert stored() == 3
