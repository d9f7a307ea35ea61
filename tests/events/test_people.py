"""Mails and messages for people: not more than they can read."""

from datetime import timedelta
from email.message import Message
from typing import Any

import pytest
from django.utils import timezone
from mails import MailServer
from owing import contact_point_of, event_of, owe
from pytest_django import Settings
from receivers import receiver
from stack import wait_until

from thingscale.accounts.models import User
from thingscale.events import pace, words
from thingscale.events.delivery import Deliveries
from thingscale.events.models import Delivery, ReceiverPace
from thingscale.events.pace import Pace, plan

Status = Delivery.Status


def states(**narrowed: object) -> list[str]:
    return list(Delivery.objects.filter(**narrowed).values_list("status", flat=True))


def text_of(mail: Message) -> str:
    content: Any = mail.get_payload(decode=True)
    return str(content.decode())


def a_minute_later() -> None:
    """As if it had passed."""
    for its in ReceiverPace.objects.all():
        its.sent = [moment - 61 for moment in its.sent]
        its.digest_at = its.digest_at and its.digest_at - 61
        its.save()
    for owed in Delivery.objects.filter(status=Status.WAITING):
        owed.due_at -= timedelta(seconds=61)
        owed.save(update_fields=["due_at"])


@pytest.mark.django_db(transaction=True)
def test_a_mail_says_what_happened(
    user: User, deliveries: Deliveries, mail_server: MailServer, settings: Settings
) -> None:
    settings.PUBLIC_URL = "https://iot.example.com"
    (owed,) = owe(event_of(user))
    wait_until(lambda: states() == [Status.SENT])
    (mail,) = mail_server.mails
    assert (mail["To"], mail["Subject"]) == ("a@example.com", "Too warm (d1)")
    assert (mail["X-Delivery-Id"], mail["Auto-Submitted"]) == (str(owed.id), "auto-generated")
    assert text_of(mail).replace("\r\n", "\n") == (
        "temp was consistent with the threshold. Current:31 > Threshold:30\n"
        "\n"
        "Event:     1: Too warm\n"
        "Severity:  warning\n"
        "Channel:   7 Cellar\n"
        "Device:    d1\n"
        "Source:    temp\n"
        "Value:     31\n"
        "Threshold: 30\n"
        "Time:      2026-11-29 03:10:22+0100\n"
        "\n"
        "https://iot.example.com/alerts/\n"
    )
    assert Delivery.objects.get().answer == "The mail server took it."


@pytest.mark.django_db(transaction=True)
def test_nothing_gets_into_the_headers(user: User, deliveries: Deliveries, mail_server: MailServer) -> None:
    event = event_of(user)
    event.description = "Too warm\r\nBcc: victim@example.com\r\n\r\nBuy this"
    owe(event)
    owe(event, receiver="a@example.com\nBcc: victim@example.com")
    wait_until(lambda: Status.WAITING not in states())
    assert sorted(states()) == [Status.FAILED, Status.SENT]
    (mail,) = mail_server.mails
    assert mail["Bcc"] is None
    assert mail["X-RcptTo"] == "a@example.com"
    assert "Buy this" in mail["Subject"].replace("\n", "")


@pytest.mark.django_db(transaction=True)
def test_without_a_mail_server_it_says_so(user: User, deliveries: Deliveries) -> None:
    owe(event_of(user))
    wait_until(lambda: states() == [Status.FAILED])
    assert "THINGSCALE_EMAIL_URL" in Delivery.objects.get().answer


@pytest.mark.django_db(transaction=True)
def test_a_mailbox_that_is_refused(user: User, deliveries: Deliveries, mail_server: MailServer) -> None:
    mail_server.refusal = "550 No such mailbox"
    owe(event_of(user))
    wait_until(lambda: states() == [Status.FAILED])
    assert Delivery.objects.get().answer == "550 No such mailbox"
    mail_server.refusal = "451 Later"
    owe(event_of(user))
    wait_until(lambda: Delivery.objects.filter(status=Status.WAITING, tries=1).exists())
    assert Delivery.objects.get(tries=1, status=Status.WAITING).answer == "451 Later"


@pytest.mark.django_db(transaction=True)
def test_a_mail_server_that_is_away(user: User, deliveries: Deliveries, settings: Settings) -> None:
    with receiver() as there:
        pass
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", there.port
    owe(event_of(user))
    wait_until(lambda: Delivery.objects.filter(tries=1).exists())
    assert Delivery.objects.get().answer == "The mail server is away (ConnectionRefusedError)."
    assert states() == [Status.WAITING]


@pytest.mark.django_db(transaction=True)
def test_many_are_gathered_into_one_a_minute(
    user: User, other_user: User, deliveries: Deliveries, mail_server: MailServer
) -> None:
    event = event_of(user)
    owe(event, 100)
    owe(event_of(other_user), 3)
    wait_until(lambda: states(user=user).count(Status.SENT) == 10 and len(mail_server.mails) == 13)
    owe(event, 20)
    wait_until(lambda: not Delivery.objects.filter(status=Status.WAITING, due_at__lt=timezone.now()).exists())
    assert len(mail_server.mails) == 13  # the others wait for the minute to end
    a_minute_later()
    wait_until(lambda: states(user=user).count(Status.SENT) == 120)
    assert len(mail_server.mails) == 14
    mail = mail_server.mails[-1]
    assert mail["Subject"] == "ThingScale: 110 notifications"
    lines = text_of(mail).splitlines()
    assert len([line for line in lines if "Too warm" in line]) == 50
    assert "And 60 more." in lines
    owe(event, 11)
    wait_until(lambda: not Delivery.objects.filter(status=Status.WAITING, due_at__lt=timezone.now()).exists())
    assert len(mail_server.mails) == 14
    a_minute_later()
    wait_until(lambda: Status.WAITING not in states())
    assert len(mail_server.mails) == 15
    a_minute_later()
    owe(event, 3)
    wait_until(lambda: Status.WAITING not in states())
    assert len(mail_server.mails) == 18  # few again: one by one


@pytest.mark.django_db(transaction=True)
def test_the_brake_says_so_once(
    user: User, deliveries: Deliveries, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "MAX_AN_HOUR", 5)
    event = event_of(user)
    owe(event, 5)
    wait_until(lambda: states() == [Status.SENT] * 5)
    owe(event, 3)
    wait_until(lambda: states(about="match").count(Status.LEFT_OUT) == 3)
    wait_until(lambda: states(about="brake") == [Status.SENT])
    owe(event, 3)
    wait_until(lambda: states(about="match").count(Status.LEFT_OUT) == 6)
    assert len(mail_server.mails) == 6
    assert mail_server.mails[-1]["Subject"] == "ThingScale: notifications are left out"
    assert "More than 5 messages in an hour" in text_of(mail_server.mails[-1])
    assert "More than 5 messages" in Delivery.objects.filter(status=Status.LEFT_OUT)[0].answer
    ReceiverPace.objects.update(braked_until=1, sent=[])  # the hour has passed
    owe(event)
    wait_until(lambda: states(about="match").count(Status.SENT) == 6)


@pytest.mark.django_db(transaction=True)
def test_messages_of_contact_points_are_gathered_too(user: User, deliveries: Deliveries) -> None:
    with receiver() as there:
        point = contact_point_of(user, f"json://127.0.0.1:{there.port}/")
        owe(event_of(user), 30, transport="contact", receiver=f"contact:{point.pk}", contact_point=point)
        wait_until(lambda: states().count(Status.SENT) == 10)
        a_minute_later()
        wait_until(lambda: states().count(Status.SENT) == 30)
    assert len(there.requests) == 11
    assert there.requests[-1].json["title"] == "ThingScale: 20 notifications"


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_none_gathers_for_itself(
    user: User, deliveries: Deliveries, mail_server: MailServer
) -> None:
    other = Deliveries()
    other.start()
    try:
        event = event_of(user)
        for _ in range(6):
            owe(event, 20)
        wait_until(lambda: states().count(Status.SENT) >= 10)
        wait_until(
            lambda: not Delivery.objects.filter(status=Status.WAITING, due_at__lt=timezone.now()).exists()
        )
        a_minute_later()
        wait_until(lambda: states().count(Status.SENT) == 120)
    finally:
        other.stop()
    assert len(mail_server.mails) <= 20 + 2


def test_few_go_out_one_by_one() -> None:
    its = Pace()
    planned = plan(its, list(range(10)), 1000)
    assert planned.messages == [[number] for number in range(10)]
    assert not planned.later
    assert not its.digest_at


def test_beyond_ten_a_minute_the_rest_waits() -> None:
    its = Pace(sent=[950.0] * 4 + [100.0] * 20)
    planned = plan(its, list(range(10)), 1000)
    assert len(planned.messages) == 6
    assert planned.later == [6, 7, 8, 9]
    assert its.digest_at == 1010


def test_gathered_ones_are_one_message() -> None:
    its = Pace(digest_at=1010)
    assert plan(its, list(range(30)), 1000).later == list(range(30))
    assert plan(its, list(range(30)), 1010).messages == [list(range(30))]
    assert its.digest_at == 1070


def test_few_gathered_ones_are_single_again() -> None:
    its = Pace(sent=[940.0], digest_at=1010)
    assert plan(its, list(range(4)), 1010).messages == [[0], [1], [2], [3]]
    assert its.digest_at == 0


def test_the_brake_lasts_an_hour() -> None:
    its = Pace(sent=[900.0] * pace.MAX_AN_HOUR)
    planned = plan(its, [1, 2], 1000)
    assert (planned.left_out, planned.brake) == ([1, 2], True)
    again = plan(its, [3], 1001)
    assert (again.left_out, again.brake) == ([3], False)
    assert plan(its, [4], 1000 + pace.HOUR).messages == [[4]]


def test_what_fires_together_is_one_text() -> None:
    body = {
        **{"event_id": 3, "description": "Too warm", "status": "temp was high", "device_id": "d1"},
        "also": [
            {"device_id": f"d{number}", "status": "temp was high", "at": "2026-11-29T03:10:22+0100"}
            for number in range(2, 102)
        ],
        "more": 7,
    }
    assert words.title(body, "firing") == "Too warm (d1 and 107 others)"
    text = words.text(body, "firing", "")
    assert "2026-11-29 03:10:22+0100  d2: temp was high" in text.splitlines()
    assert "And 57 more." in text.splitlines()
    assert words.title({**body, "also": []}, "resolved") == "Over: Too warm (d1 and 7 others)"


def test_that_matches_are_left_out() -> None:
    body = {"status": "Matches are left out.", "left_out": 1200, "event_id": 3}
    assert words.text(body, "brake", "") == "Matches are left out.\nSo far it is 1,200 matches.\n"
    body = {"status": "It was high.", "left_out": 2, "event_id": 3}
    assert "Nobody was told of 2 other ones before it." in words.text(body, "match", "")
