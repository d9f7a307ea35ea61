"""Contact points: their form, their test, what of an address is shown, whose they are."""

from typing import Any

import pytest
from support import Account

from thingscale.events import actions
from thingscale.events.models import ContactPoint, Delivery

PLAIN = {"name": "Night shift", "url": "ntfys://ntfy.sh/secret-topic"}


def point_of(account: Account, **fields: str) -> ContactPoint:
    return actions.create_contact_point(account.user, **PLAIN | fields)


def test_an_empty_list_says_what_to_do(account: Account, signed_in: Any) -> None:
    page = signed_in(account).get("/alerts/contacts/").text
    assert "No contact point yet" in page
    for service in ("Slack", "Telegram", "ntfy", "Discord", "Pushover", "PagerDuty", "Teams"):
        assert service in page


def test_a_contact_point_is_added_and_its_address_is_not_shown(account: Account, signed_in: Any) -> None:
    client = signed_in(account)
    page = client.post("/alerts/contacts/", PLAIN, follow=True).text
    point = ContactPoint.objects.get()
    assert point.url == PLAIN["url"]
    assert b"secret-topic" not in bytes(point.ciphertext)
    assert "ntfys://ntfy.sh/…" in page
    for path in ("", f"{point.pk}/", f"{point.pk}/delete/"):
        assert "secret-topic" not in client.get(f"/alerts/contacts/{path}").text


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"name": ""}, "name", "required"),
        ({"name": "Night shift"}, "name", "already"),
        ({"name": "x" * 101}, "name", "at most 100"),
        ({"url": ""}, "url", "Give the address"),
        ({"name": "\x07"}, "name", "1 to 100"),
        ({"url": "nonsense"}, "url", "Give the address of a service"),
        ({"url": "syslog://localhost"}, "url", "Give the address of a service"),
        ({"url": "mailto://user:secret@example.com"}, "url", "Give the address of a service"),
        ({"url": "ntfy://169.254.169.254/topic"}, "url", "THINGSCALE_NOTIFY_NETWORKS"),
    ],
)
def test_what_is_refused(
    account: Account, signed_in: Any, changes: dict[str, str], field: str, said: str
) -> None:
    point_of(account)
    answer = signed_in(account).post("/alerts/contacts/", PLAIN | {"name": "Other"} | changes)
    assert said in " ".join(answer.context["form"].errors[field])
    assert ContactPoint.objects.count() == 1


def test_one_too_many(account: Account, signed_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MAX_CONTACT_POINTS", 1)
    point_of(account)
    assert "delete one first" in signed_in(account).post("/alerts/contacts/", PLAIN | {"name": "Other"}).text


def test_a_change_keeps_the_address_unless_there_is_another(account: Account, signed_in: Any) -> None:
    point = point_of(account)
    client = signed_in(account)
    client.post(f"/alerts/contacts/{point.pk}/", {"name": "Day shift", "url": ""})
    point.refresh_from_db()
    assert (point.name, point.url) == ("Day shift", PLAIN["url"])
    client.post(f"/alerts/contacts/{point.pk}/", {"name": "Day shift", "url": "ntfys://ntfy.sh/other"})
    point.refresh_from_db()
    assert point.url == "ntfys://ntfy.sh/other"
    point_of(account)
    answer = client.post(f"/alerts/contacts/{point.pk}/", {"name": "Night shift", "url": ""})
    assert "already" in answer.text


def test_the_switch_the_test_and_the_end(account: Account, signed_in: Any) -> None:
    point = point_of(account)
    client = signed_in(account)
    page = client.post(f"/alerts/contacts/{point.pk}/test/", follow=True)
    assert page.redirect_chain == [(f"/alerts/deliveries/?contact={point.pk}", 302)]
    owed = Delivery.objects.get()
    assert (owed.about, owed.status, owed.contact_point) == ("test", "waiting", point)
    assert owed.body["delivery_id"] == str(owed.pk)
    client.post(f"/alerts/contacts/{point.pk}/disable/")
    assert not ContactPoint.objects.get().enabled
    client.post(f"/alerts/contacts/{point.pk}/enable/")
    assert ContactPoint.objects.get().enabled
    assert "Night shift" in client.get(f"/alerts/contacts/{point.pk}/delete/").text
    assert "No contact point yet" in client.post(f"/alerts/contacts/{point.pk}/delete/", follow=True).text


def test_an_outsider_sees_and_changes_nothing(account: Account, outsider: Account, signed_in: Any) -> None:
    point = point_of(account, name="secret-name")
    client = signed_in(outsider)
    assert "secret-name" not in client.get("/alerts/contacts/").text
    for path in ("", "test/", "enable/", "disable/", "delete/"):
        assert client.post(f"/alerts/contacts/{point.pk}/{path}", PLAIN).status_code == 404
    assert "secret-name" not in client.get("/alerts/events/new/").text
    assert ContactPoint.objects.get().name == "secret-name"
    assert not Delivery.objects.exists()
