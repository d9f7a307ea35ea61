"""What is owed is sent: at least once, by each transport, and nobody waits for somebody else's receiver."""

import hashlib
import hmac
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from unittest.mock import patch

import psycopg
import pytest
from django.db.models import F
from django.utils import timezone
from owing import contact_point_of, event_of, owe
from pytest_django import Settings
from receivers import ANSWER_OK, Receiver, Request, Respond, answer, hang, receiver
from stack import wait_until

from thingscale.accounts import encryption
from thingscale.accounts.models import User
from thingscale.events import claims, sending
from thingscale.events.delivery import Deliveries, keep_house
from thingscale.events.models import Delivery, Event
from thingscale.events.shares import ReceiverKey, Shares, Wanted
from thingscale.lib.ids import UserPk
from thingscale.processes import own_connection

Status = Delivery.Status


def states(**narrowed: object) -> list[str]:
    return list(Delivery.objects.filter(**narrowed).order_by("created_at").values_list("status", flat=True))


def wait_for(status: str, count: int = 1, seconds: float = 20) -> None:
    wait_until(lambda: states().count(status) == count, seconds, f"{count} {status}, not {states()}")


def due_now() -> None:
    """As if the time had passed."""
    Delivery.objects.filter(status=Status.WAITING).update(due_at=timezone.now())


def secret_of(event: Event) -> str:
    event.refresh_from_db()
    return encryption.decrypt(bytes(event.secret_ciphertext or b""), encryption.Purpose.NOTIFICATION)


@pytest.mark.django_db(transaction=True)
def test_a_webhook_is_sent_and_signed(user: User, deliveries: Deliveries) -> None:
    with receiver() as there:
        event = event_of(user, there.url)
        (owed,) = owe(event)
        deliveries.wake()
        wait_for(Status.SENT)
    (request,) = there.requests
    assert request.json == owed.body
    assert request.headers["x-delivery-id"] == str(owed.id)
    expected = hmac.new(secret_of(event).encode(), request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-signature"] == f"sha256={expected}"
    owed.refresh_from_db()
    assert (owed.answer, owed.tries, owed.claimed_until) == ("200 ok", 1, None)
    assert owed.done_at


@pytest.mark.django_db(transaction=True)
def test_it_is_tried_again_with_the_same_body(user: User, deliveries: Deliveries) -> None:
    broken = b"HTTP/1.1 500 Oh\r\nContent-Length: 6\r\n\r\nbroken"
    with receiver(answer(broken, ANSWER_OK)) as there:
        (owed,) = owe(event_of(user, there.url))
        wait_until(lambda: Delivery.objects.get().tries == 1)
        owed.refresh_from_db()
        assert owed.status == Status.WAITING
        assert owed.answer == "500 broken"
        assert 3 < (owed.due_at - timezone.now()).total_seconds() < 7
        due_now()
        wait_for(Status.SENT)
    first, second = there.requests
    assert first.body == second.body


@pytest.mark.django_db(transaction=True)
def test_retry_after_is_kept(user: User, deliveries: Deliveries) -> None:
    busy = b"HTTP/1.1 429 Too Many\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n"
    with receiver(answer(busy)) as there:
        (owed,) = owe(event_of(user, there.url))
        wait_until(lambda: Delivery.objects.get().tries == 1)
    owed.refresh_from_db()
    assert 110 < (owed.due_at - timezone.now()).total_seconds() <= 121


@pytest.mark.django_db(transaction=True)
def test_a_redirect_and_a_refusal_fail_at_once(user: User, deliveries: Deliveries) -> None:
    for line in (b"HTTP/1.1 301 Moved\r\nLocation: /x\r\n", b"HTTP/1.1 403 No\r\n"):
        with receiver(answer(line + b"Content-Length: 0\r\n\r\n")) as there:
            owe(event_of(user, there.url))
            wait_until(lambda: Status.WAITING not in states())
    assert states() == [Status.FAILED] * 2
    assert "redirect" in Delivery.objects.earliest("created_at").answer


@pytest.mark.django_db(transaction=True)
def test_nothing_inside_is_reached(user: User, deliveries: Deliveries, settings: Settings) -> None:
    settings.NOTIFY_NETWORKS = ()
    with receiver() as there:
        owe(event_of(user, there.url))
        wait_for(Status.FAILED)
    assert not there.requests
    assert "THINGSCALE_NOTIFY_NETWORKS" in Delivery.objects.get().answer


@pytest.mark.django_db(transaction=True)
def test_an_hour_of_failing_and_then_it_works(user: User, deliveries: Deliveries) -> None:
    """The clock is moved: each time it is due at once."""
    failing = threading.Event()
    failing.set()

    def respond(connection: object, _request: Request) -> None:
        status = b"503 No" if failing.is_set() else b"200 OK"
        connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")  # type: ignore[attr-defined]

    with receiver(respond) as there, patch("thingscale.events.shares.MAX_PAUSE", 0.1):
        (owed,) = owe(event_of(user, there.url))
        waited = 0.0
        for tries in range(1, 20):
            wait_until(lambda: Delivery.objects.get().tries == tries)  # noqa: B023
            owed.refresh_from_db()
            assert owed.status == Status.WAITING
            wait = owed.due_at - timezone.now()
            waited += wait.total_seconds()
            if waited > 3600:
                failing.clear()
            Delivery.objects.update(due_at=timezone.now(), created_at=F("created_at") - wait)
            if waited > 3600:
                break
        wait_for(Status.SENT)
    assert 6 <= len(there.requests) <= 10  # so often in an hour
    assert len({request.headers["x-delivery-id"] for request in there.requests}) == 1


@pytest.mark.django_db(transaction=True)
def test_after_a_day_it_is_given_up(user: User, deliveries: Deliveries) -> None:
    broken = b"HTTP/1.1 500 Oh\r\nContent-Length: 6\r\n\r\nbroken"
    with receiver(answer(broken)) as there:
        owe(
            event_of(user, there.url), created_at=timezone.now() - timedelta(hours=23, minutes=59, seconds=58)
        )
        wait_until(lambda: Delivery.objects.get().tries == 1)
        assert Delivery.objects.get().due_at - timezone.now() < timedelta(seconds=3)  # the last one
        wait_for(Status.FAILED)
    assert Delivery.objects.get().answer == "Given up after a day. 500 broken"


@pytest.mark.django_db(transaction=True)
def test_what_is_a_day_old_is_given_up_unsent(user: User) -> None:
    owe(event_of(user, "http://198.51.100.1/"), created_at=timezone.now() - timedelta(hours=25))
    owe(event_of(user, "http://198.51.100.1/"), created_at=timezone.now() - timedelta(hours=23))
    with own_connection.connect("test") as connection:
        keep_house(connection)
    assert states() == [Status.FAILED, Status.WAITING]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("respond", [hang], ids=["hang"])
def test_who_hangs_delays_nobody(
    user: User, other_user: User, deliveries: Deliveries, respond: Respond
) -> None:
    with receiver(respond) as hanging, receiver() as well, receiver() as another:
        owe(event_of(user, hanging.url), 200)
        wait_until(lambda: len(hanging.requests) >= 2)
        began = time.monotonic()
        same_account, other_account = event_of(user, well.url), event_of(other_user, another.url)
        for _ in range(20):
            owe(same_account)
            owe(other_account)
            deliveries.wake()
            time.sleep(0.05)  # they come one after the other
        wait_for(Status.SENT, 40)
        assert time.monotonic() - began < 5
    late = [
        (owed.done_at - owed.created_at).total_seconds()
        for owed in Delivery.objects.filter(status=Status.SENT)
        if owed.done_at
    ]
    assert max(late) < 2
    assert len(hanging.requests) <= 4


@pytest.mark.django_db(transaction=True)
def test_many_hanging_receivers_of_one_account_delay_no_other(
    user: User, other_user: User, deliveries: Deliveries
) -> None:
    with receiver(hang) as hanging, receiver() as well:
        event = event_of(user, hanging.url)
        for number in range(60):
            owe(event, receiver=f"host{number}")
        wait_until(lambda: len(hanging.requests) >= 5)
        began = time.monotonic()
        owe(event_of(other_user, well.url), 20)
        deliveries.wake()
        wait_for(Status.SENT, 20)
        assert time.monotonic() - began < 2
        assert len(hanging.requests) <= 10


@pytest.fixture
def killed_after_sending(user: User, here: None) -> Iterator[tuple[Receiver, Deliveries]]:
    """A worker that has sent a delivery, and did not come to note it."""
    with receiver() as there:
        owe(event_of(user, there.url))
        killed = Deliveries()
        with patch.object(Deliveries, "_note"):
            killed.start()
            wait_until(lambda: there.requests)
            killed.stop(10)
        assert Delivery.objects.get().claimed_by == killed._claims.worker
        yield there, killed


@pytest.mark.django_db(transaction=True)
def test_what_a_dead_worker_was_sending_is_sent_again_soon(
    killed_after_sending: tuple[Receiver, Deliveries], deliveries: Deliveries
) -> None:
    there, _ = killed_after_sending
    wait_for(Status.SENT)
    assert Delivery.objects.get().claimed_by is None
    assert len({request.headers["x-delivery-id"] for request in there.requests}) == 1
    assert len(there.requests) == 2


@pytest.mark.django_db(transaction=True)
def test_what_a_living_worker_is_sending_is_sent_again_once_the_claim_is_over(
    killed_after_sending: tuple[Receiver, Deliveries], connection: psycopg.Connection, here: None
) -> None:
    there, hanging = killed_after_sending
    connection.execute("SELECT pg_advisory_lock(%s, %s)", [claims.LOCK, hanging._claims.worker])
    running = Deliveries()
    with patch.object(claims, "DEAD_SECONDS", 0.1), patch.object(claims, "LOOK_SECONDS", 0.0):
        running.start()
        try:
            wait_until(lambda: running._claims._released)
            running.wake()
            assert (len(there.requests), states()) == (1, [Status.WAITING])
            Delivery.objects.update(claimed_until=timezone.now())  # the time has passed
            wait_for(Status.SENT)
        finally:
            running.stop(10)
    assert len(there.requests) == 2


@pytest.mark.django_db(transaction=True)
def test_at_the_stop_what_is_being_sent_is_noted(user: User, here: None) -> None:
    def slow(connection: object, _request: Request) -> None:
        time.sleep(1)
        connection.sendall(ANSWER_OK)  # type: ignore[attr-defined]

    with receiver(slow) as there:
        owe(event_of(user, there.url), 20)
        running = Deliveries()
        running.start()
        wait_until(lambda: there.requests)
        running.stop()
    begun = len(there.requests)
    assert states().count(Status.SENT) == begun
    assert not Delivery.objects.exclude(claimed_until=None).exists()


@pytest.mark.django_db(transaction=True)
def test_a_deleted_event_and_an_inactive_account(
    user: User, other_user: User, deliveries: Deliveries
) -> None:
    with receiver() as there:
        event = event_of(user, there.url)
        owe(event, due_at=timezone.now() + timedelta(hours=1))
        event.delete()
        other_user.is_active = False
        other_user.save()
        owe(event_of(other_user, there.url))
        due_now()
        wait_for(Status.FAILED, 2)
    assert not there.requests
    assert {owed.answer for owed in Delivery.objects.all()} == {
        "The event was deleted.",
        "The account is not active.",
    }


@pytest.mark.django_db(transaction=True)
def test_contact_points(user: User, deliveries: Deliveries) -> None:
    with receiver() as there:
        point = contact_point_of(user, f"json://127.0.0.1:{there.port}/alarm")
        event = event_of(user)
        owe(event, transport="contact", receiver=f"contact:{point.pk}", contact_point=point)
        wait_for(Status.SENT)
        (request,) = there.requests
        assert request.path == "/alarm"
        assert request.json["title"] == "Too warm (d1)"
        assert "Value:     31" in request.json["message"]
        point.enabled = False
        point.save()
        owe(event, transport="contact", receiver=f"contact:{point.pk}", contact_point=point)
        wait_for(Status.FAILED)
    assert len(there.requests) == 1


@pytest.mark.django_db(transaction=True)
def test_more_than_may_wait_is_left_out(user: User, other_user: User, settings: Settings) -> None:
    settings.MAX_DELIVERIES = 20
    owe(event_of(user, "http://198.51.100.1/"), 30)
    owe(event_of(other_user, "http://198.51.100.1/"), 20)
    with own_connection.connect("test") as connection:
        keep_house(connection)
        keep_house(connection)
    assert states(user=user, about="match").count(Status.LEFT_OUT) >= 10
    assert states(user=other_user) == [Status.WAITING] * 20
    (said,) = Delivery.objects.filter(about="brake")
    assert (said.user, said.receiver, said.transport) == (user, "a@example.com", "email")
    assert "More than 20 notifications" in said.body["status"]


@pytest.mark.django_db(transaction=True)
def test_its_connection_ends_and_it_begins_again(user: User, deliveries: Deliveries) -> None:
    with receiver() as there:
        event = event_of(user, there.url)
        owe(event)
        wait_for(Status.SENT)
        with own_connection.connect("test") as connection:
            connection.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'thingscale-deliveries' AND datname = current_database()"""
            )
        owe(event, 3)
        wait_for(Status.SENT, 4)


def test_back_off_grows_up_to_an_hour() -> None:
    assert sending.BACK_OFF[0] == 5
    assert sending.BACK_OFF[-1] == 3600
    assert list(sending.BACK_OFF) == sorted(sending.BACK_OFF)


def test_a_quick_receiver_gets_several_in_a_row() -> None:
    wanted = Wanted(ReceiverKey(UserPk(1), "example.com"), is_mail=False, for_people=False)
    shares = Shares()
    assert shares.in_a_row(wanted) == 1  # nothing is known of it
    for seconds, expected in ((0.01, 1), (0.01, 5), (0.07, 2), (3.0, 1), (0.0, 5)):
        for _ in range(2 if expected > 1 else 1):
            shares.began(wanted)
            shares.took(wanted, seconds)
            shares.ended(wanted, True, 0.0)
        assert shares.in_a_row(wanted) == expected
    shares.began(wanted)
    shares.ended(wanted, False, 0.0)
    assert shares.in_a_row(wanted) == 1


@pytest.mark.django_db(transaction=True)
def test_one_address_that_fails_keeps_no_other_at_its_host_waiting(
    user: User, deliveries: Deliveries
) -> None:
    def respond(connection: object, request: Request) -> None:
        broken = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(broken if request.path == "/broken" else ANSWER_OK)  # type: ignore[attr-defined]

    with receiver(respond) as there:
        owe(event_of(user, there.url), 60)
        owe(event_of(user, there.url.replace("/hook", "/broken")), 1)
        owe(event_of(user, there.url), 60)
        wait_for(Status.SENT, 120)
    assert len(there.requests) >= 121
    assert not Delivery.objects.filter(status=Status.SENT, tries__gt=1).exists()
