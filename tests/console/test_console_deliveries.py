"""The log of notifications: what it shows and hides, its filters, whose it is."""

from datetime import timedelta
from typing import Any

from django.utils import timezone
from support import Account

from thingscale.accounts.encryption import Purpose, encrypt
from thingscale.events.actions import create_event
from thingscale.events.models import ContactPoint, Delivery, Event


def contact(account: Account, name: str = "Night shift") -> ContactPoint:
    address = encrypt("ntfy://example.com/secret-topic", Purpose.NOTIFICATION)
    return ContactPoint.objects.create(user=account.user, name=name, ciphertext=address)


def delivery(account: Account, **fields: Any) -> Delivery:
    plain = {"transport": "email", "about": "firing", "receiver": "owner@example.com", "body": {}}
    return Delivery.objects.create(user=account.user, **plain | fields)


def event_of(account: Account) -> Event:
    plain = {"mapped_channel": account.channel(7), "source": "temp", "operator": ">", "threshold": "30"}
    return create_event(account.user, plain | {"description": "Hall too warm"})


def test_an_empty_log_says_what_comes(account: Account, signed_in: Any) -> None:
    assert "No notification yet" in signed_in(account).get("/alerts/deliveries/").text


def test_what_became_of_it_is_shown_and_addresses_are_not(account: Account, signed_in: Any) -> None:
    event = event_of(account)
    point = contact(account)
    later = timezone.now() + timedelta(minutes=9, seconds=30)
    delivery(account, event=event, status="sent", answer="250 OK", tries=1)
    delivery(account, transport="http", receiver="hooks.example.com:443", answer="500", tries=3, due_at=later)
    delivery(account, transport="contact", receiver=f"contact:{point.pk}", contact_point=point)
    delivery(account, transport="contact", receiver="contact:0")
    page = signed_in(account).get("/alerts/deliveries/").text
    for text in ("Hall too warm", "250 OK", "o•••@example.com", "hooks.example.com:443", "Night shift"):
        assert text in page
    assert "again" in page
    assert "in 9 min" in page
    assert "a contact point that is gone" in page
    assert "secret-topic" not in page


def test_filters(account: Account, signed_in: Any) -> None:
    event, point = event_of(account), contact(account)
    delivery(account, event=event, status="failed", answer="is-failed")
    delivery(account, transport="contact", contact_point=point, answer="is-contact")
    client = signed_in(account)
    for query, shown in (
        ("status=failed", "is-failed"),
        ("event=1", "is-failed"),
        (f"contact={point.pk}", "is-contact"),
        ("status=waiting", "is-contact"),
    ):
        page = client.get(f"/alerts/deliveries/?{query}").text
        assert shown in page
        assert ({"is-failed", "is-contact"} - {shown}).pop() not in page
    for query in ("status=sent", "event=x", "event=99999999999999", "contact=9", "contact=%00"):
        assert "No notification is like that" in client.get(f"/alerts/deliveries/?{query}").text


def test_an_outsider_sees_nothing(account: Account, outsider: Account, signed_in: Any) -> None:
    point = contact(account)
    delivery(account, event=event_of(account), answer="is-secret", contact_point=point)
    client = signed_in(outsider)
    for query in ("", "?event=1", f"?contact={point.pk}", "?status=waiting"):
        page = client.get(f"/alerts/deliveries/{query}").text
        assert "is-secret" not in page
        assert "Night shift" not in page
