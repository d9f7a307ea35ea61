"""A user's list costs what the user has, however many others there are."""

import json
from typing import Any

import pytest
from api_calls import Caller, document
from django.db import connection
from django.test.utils import CaptureQueriesContext

from thingscale.accounts.models import User
from thingscale.devices.models import Device

USERS, DEVICES = 1_000, 50

pytestmark = pytest.mark.slow


@pytest.fixture
def crowd(owner: User) -> None:
    """999 other users with 50 devices each, and the owner with 50."""
    others = User.objects.bulk_create(User(email=f"u{n}@example.com") for n in range(USERS - 1))
    everyone = [owner, *others]
    Device.objects.bulk_create(
        (Device(user=user, device_id=f"d{n}") for user in everyone for n in range(DEVICES)), batch_size=5_000
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE devices_device")


def scanned(sql: str) -> int:
    """Rows of the device table that the query reads."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        (plan,) = cursor.fetchone()
    return rows_of(plan if isinstance(plan, list) else json.loads(plan))


def rows_of(plan: Any) -> int:
    if isinstance(plan, list):
        return sum(map(rows_of, plan))
    own = 0
    if plan.get("Relation Name") == "devices_device":
        own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return int(own) + rows_of(plan.get("Plan", [])) + rows_of(plan.get("Plans", []))


def test_one_users_devices_among_fifty_thousand(api: Caller, crowd: None) -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = api.get("device")
    assert len(document(response)) == DEVICES
    assert len(queries) <= 3
    assert sum(scanned(q["sql"]) for q in queries if "devices_device" in q["sql"]) == DEVICES
