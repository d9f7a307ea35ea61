"""Durable sessions of the release before go on, with what they subscribed to."""

from datetime import timedelta

import pytest
from django.utils import timezone
from support import Account

from ingest.service import connect
from thingscale.devices.models import ClientSession, DurableSession
from thingscale.devices.mqtt_store import previous_release, sessions
from thingscale.devices.mqtt_store.subscriptions import StoredSubscription

DAYS = 3


@pytest.fixture
def two(transactional_db: None, account: Account) -> tuple[DurableSession, DurableSession]:
    """One is over; the other is connected to a gateway of that release."""
    user, old = account.user, timezone.now() - timedelta(seconds=1)
    filters = [["U000001/#", 1, False, True, 2], ["$share/U000001-a-b-0123abcd/U000001/x", 2, True, False, 0]]
    over = DurableSession.objects.create(user=user, client_id="over", expires_at=old)
    return over, DurableSession.objects.create(user=user, client_id="c1", subscriptions=filters)


def test_they_go_on_at_the_start(two: object, account: Account) -> None:
    with connect() as connection, connection.cursor() as cursor:
        previous_release.adopt(cursor, DAYS)
        previous_release.adopt(cursor, DAYS)
        (session,) = sessions.load_sessions(cursor)
    assert session[1:3] == (account.user.pk, "c1")
    assert session.subscriptions == [
        StoredSubscription("", "#", 1 | 8 | 32, 0),
        StoredSubscription("a-b", "x", 2 | 4, 0),
    ]
    ends_at = ClientSession.objects.get().ends_at
    assert ends_at is not None
    assert timedelta(days=DAYS - 1) < ends_at - timezone.now() <= timedelta(days=DAYS)
    assert not DurableSession.objects.exists()


def test_one_goes_on_when_its_client_comes(two: object, account: Account) -> None:
    with connect() as connection, connection.cursor() as cursor:
        previous_release.adopt(cursor, DAYS, [(account.user.pk, "c1"), (account.user.pk, "c2")])
        assert [each.client_id for each in sessions.load_sessions(cursor)] == ["c1"]
    assert [each.client_id for each in DurableSession.objects.all()] == ["over"]


def test_a_session_that_is_there_already_stays(two: object, account: Account) -> None:
    ClientSession.objects.create(account=account.user, client_id="c1", expiry=5)
    with connect() as connection, connection.cursor() as cursor:
        previous_release.adopt(cursor, DAYS)
        assert sessions.load_sessions(cursor)[0].subscriptions == []
