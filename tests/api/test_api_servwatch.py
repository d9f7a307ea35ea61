"""Accounts of Servwatch: what their apps read of a host."""

import time

import orjson
import pytest
from api_calls import Caller
from pytest_django import Settings

from thingscale.accounts.limits import Kind
from thingscale.accounts.models import User
from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.provisioning.accounts import open_account
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.actions.datapoints import store_points


@pytest.fixture
def servwatch(db: None, settings: Settings) -> User:
    settings.REST_RATE = 20
    user = open_account("servers@example.com", "correct horse battery", "Asia/Tokyo", kind=Kind.SERVWATCH)
    channel = create_channel(user, 0, name="web-1")
    values = [
        {"cpu": {"idle": idle, "user": 100 - idle}, "disk": {"/": {"percent": 40}}} for idle in (90.0, 94.0)
    ]
    store_points(channel, Points.of([(None, orjson.dumps(value), now_us()) for value in values]))
    return user


def test_a_sample_and_its_average_keep_their_shape(servwatch: User) -> None:
    api = Caller(servwatch)
    newest = api.get("stream/0", X_ENDTIME="last").json()
    assert newest["stream"][0]["value"] == {
        "cpu": {"idle": 94.0, "user": 6.0},
        "disk": {"/": {"percent": 40}},
    }
    average = api.get("stream/0", X_STARTTIME="2000-01-01", X_ENDTIME="2099-12-31", X_AGGREGATE="avg").json()
    assert average["aggr_type"] == "avg"
    assert average["result"][0]["value"] == {
        "cpu": {"idle": 92.0, "user": 8.0},
        "disk": {"/": {"percent": 40}},
    }


def test_three_requests_a_second(servwatch: User) -> None:
    api = Caller(servwatch)
    while True:
        began = time.monotonic()
        answers = [api.get("channel") for _ in range(4)]
        if time.monotonic() < began + 1:
            break
        time.sleep(1)
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].json()["error"] == "TOO_MANY_REQUESTS"
    assert answers[3].headers["Retry-After"]
