from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.db import connection
from django.utils import timezone
from stack import wait_until

from thingscale.accounts.models import User
from thingscale.devices import durable, presence
from thingscale.devices.durable import Elsewhere, Kept
from thingscale.devices.models import DurableSession

pytestmark = pytest.mark.django_db(transaction=True)
LONGEST = datetime(2100, 1, 1, tzinfo=UTC)
PAST = datetime(2026, 1, 2, tzinfo=UTC)
SUBSCRIPTIONS = [["U000001/#", 1, False, False, 0]]


def ago(seconds: float) -> datetime:
    return timezone.now() - timedelta(seconds=seconds)


def test_what_is_saved_is_loaded(user: User, outsider: User) -> None:
    away = {(user.pk, "c1"): Kept(SUBSCRIPTIONS, PAST), (outsider.pk, "c1"): Kept([], PAST)}
    durable.save(away | {(user.pk, "c2"): Kept([])})
    assert durable.load(LONGEST) == away | {(user.pk, "c2"): Kept([], LONGEST)}
    durable.save({(user.pk, "c1"): None, (user.pk, "c2"): Kept(SUBSCRIPTIONS, PAST), (user.pk, "c3"): None})
    assert durable.load(LONGEST) == {
        (user.pk, "c2"): Kept(SUBSCRIPTIONS, PAST),
        (outsider.pk, "c1"): Kept([], PAST),
    }


def test_the_session_of_an_account_that_has_gone_is_left_out(user: User) -> None:
    durable.save({(user.pk, "c1"): Kept([], PAST), (user.pk + 1000, "c1"): Kept([], PAST)})
    assert list(durable.load(LONGEST)) == [(user.pk, "c1")]


def test_no_row_ends_later_than_is_allowed(user: User) -> None:
    durable.save({(user.pk, "c1"): Kept([], datetime(9000, 1, 1, tzinfo=UTC))})
    assert durable.load(LONGEST) == {(user.pk, "c1"): Kept([], LONGEST)}
    assert DurableSession.objects.get().expires_at == LONGEST


def test_what_another_gateway_has_is_not_over(user: User, outsider: User) -> None:
    over, moved, away = (user.pk, "over"), (user.pk, "moved"), (user.pk, "away")
    other, absent = (outsider.pk, "over"), (user.pk, "absent")
    durable.save({over: Kept([], ago(1)), moved: Kept([]), away: Kept([], ago(-60)), other: Kept([])})
    found = [durable.elsewhere(key) for key in (over, moved, away, absent)]
    assert found == [Elsewhere.NOT, Elsewhere.GOES_ON, Elsewhere.GOES_ON, Elsewhere.NOT]


@pytest.mark.parametrize("alive", [True, False])
def test_who_is_connected_to_another_gateway_has_no_end(user: User, alive: bool) -> None:
    durable.save({(user.pk, "c1"): Kept([])})
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as gateway:
        key = presence.enter(gateway)
        client = presence.Presence(user.pk, "c1", "127.0.0.1", False, 4, 60, timezone.now())
        presence.update(gateway, key, [], [client])
        if not alive:
            gateway.close()
            wait_until(lambda: not presence.alive().exists(), what="its lock to go")
        assert durable.load(LONGEST) == {(user.pk, "c1"): Kept([], LONGEST)}
        assert DurableSession.objects.get().expires_at == (None if alive else LONGEST)
        durable.save({(user.pk, "c1"): Kept([], ago(1))})
        assert durable.elsewhere((user.pk, "c1")) is (Elsewhere.CONNECTED if alive else Elsewhere.NOT)
