"""Maintenance windows: their form, their end, whose they are."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from support import Account

from thingscale.events import actions
from thingscale.events.models import MaintenanceWindow

PLAIN = {
    "devices": "roof-*",
    "starts_at": "2035-07-01T08:00",
    "ends_at": "2035-07-01T10:30",
    "note": "new filter",
}


def window(account: Account, starts: int, ends: int) -> MaintenanceWindow:
    """Hours from now."""
    now = timezone.now()
    starts_at, ends_at = now + timedelta(hours=starts), now + timedelta(hours=ends)
    return MaintenanceWindow.objects.create(
        user=account.user, devices="roof-*", starts_at=starts_at, ends_at=ends_at
    )


def test_an_empty_list_says_what_it_is_for(account: Account, signed_in: Any) -> None:
    assert "No maintenance window yet" in signed_in(account).get("/alerts/maintenance/").text


def test_times_are_in_the_zone_of_who_types(account: Account, signed_in: Any) -> None:
    account.user.locale = "Europe/Berlin"
    account.user.save()
    page = signed_in(account).post("/alerts/maintenance/", PLAIN, follow=True).text
    found = MaintenanceWindow.objects.get()
    assert found.starts_at == datetime(2035, 7, 1, 6, tzinfo=UTC)
    assert found.ends_at == datetime(2035, 7, 1, 8, 30, tzinfo=UTC)
    for text in ("roof-*", "2035-07-01 08:00", "2035-07-01 10:30", "new filter", "to come"):
        assert text in page


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"devices": ""}, "devices", "required"),
        ({"devices": "\0"}, "devices", "Null"),
        ({"devices": "a/b"}, "devices", "no / + #"),
        ({"ends_at": "2035-07-01T07:00"}, "ends_at", "after it begins"),
        ({"starts_at": "2020-07-01T07:00", "ends_at": "2020-07-01T08:00"}, "ends_at", "a time to come"),
        ({"ends_at": "2037-07-01T07:00"}, "ends_at", "at most 366 days"),
        ({"starts_at": "soon"}, "starts_at", "valid date"),
        ({"note": "x" * 201}, "note", "at most 200"),
    ],
)
def test_what_is_refused(
    account: Account, signed_in: Any, changes: dict[str, str], field: str, said: str
) -> None:
    answer = signed_in(account).post("/alerts/maintenance/", PLAIN | changes)
    assert said in " ".join(answer.context["form"].errors[field])
    assert not MaintenanceWindow.objects.exists()


def test_one_too_many(account: Account, signed_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MAX_WINDOWS", 1)
    window(account, -3, -2)
    window(account, -1, 1)
    assert "end one first" in signed_in(account).post("/alerts/maintenance/", PLAIN).text


def test_a_window_ends_now_and_one_to_come_goes(account: Account, signed_in: Any) -> None:
    lasting, coming = window(account, -1, 1), window(account, 1, 2)
    client = signed_in(account)
    for each in (lasting, coming):
        client.post(f"/alerts/maintenance/{each.pk}/end/")
    left = MaintenanceWindow.objects.get()
    assert left == lasting
    assert left.ends_at <= timezone.now()


def test_an_outsider_sees_and_ends_none(account: Account, outsider: Account, signed_in: Any) -> None:
    lasting = window(account, -1, 1)
    client = signed_in(outsider)
    assert "roof-*" not in client.get("/alerts/maintenance/").text.replace('placeholder="roof-*"', "")
    assert client.post(f"/alerts/maintenance/{lasting.pk}/end/").status_code == 404
    assert MaintenanceWindow.objects.get().ends_at > timezone.now()
