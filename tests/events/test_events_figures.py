"""What is counted of events and deliveries, and the page that shows it."""

from datetime import timedelta

import psycopg
import pytest
from django.utils import timezone
from owing import event_of, owe
from prometheus_client import CollectorRegistry, generate_latest
from receivers import answer, receiver
from stack import wait_until
from support import Account
from watching import hot, saw

from ingest.event_metrics import OLD_SECONDS, EventMetrics
from thingscale.accounts.models import User
from thingscale.events import advance, figures
from thingscale.events.delivery import Deliveries, keep_house
from thingscale.events.models import Condition, Delivery, Figure, Observation


def counted() -> dict[str, int]:
    return {f"{each.name} {each.label}".strip(): each.value for each in Figure.objects.all()}


def test_matches_are_counted_and_what_is_not_sent(account: Account, connection: psycopg.Connection) -> None:
    event = hot(account)
    for value in (31, 32):
        saw(event, value=value)
    saw(event, Observation.What.CLEARED, 20)
    Observation.objects.create(
        event=event.pk, what=Observation.What.LEFT_OUT, at=timezone.now(), count=40, value=""
    )
    advance.advance(connection)
    assert counted() == {"matches": 2, "matches left out": 40}
    type(event).objects.update(muted_until=timezone.now() + timedelta(hours=1))
    saw(event, value=33)
    advance.advance(connection)
    assert counted() == {"matches": 3, "matches left out": 40, "deliveries http:left out": 1}


@pytest.mark.django_db(transaction=True)
def test_deliveries_are_counted_by_what_became_of_them(user: User, deliveries: Deliveries) -> None:
    broken = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
    refused = b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"
    with receiver() as good, receiver(answer(broken)) as bad, receiver(answer(refused)) as closed:
        owe(event_of(user, good.url), 2)
        owe(event_of(user, good.url), due_at=timezone.now() - timedelta(seconds=5))
        owe(event_of(user, bad.url))
        owe(event_of(user, closed.url))
        outcomes = {"sent": 3, "retried": 1, "failed": 1}
        expected = {f"deliveries http:{name}": count for name, count in outcomes.items()} | {"late": 1}
        wait_until(lambda: counted() == expected, what="the counts")


def test_what_is_given_up_has_failed(user: User, connection: psycopg.Connection) -> None:
    owe(event_of(user, "http://192.0.2.1/"), created_at=timezone.now() - timedelta(hours=25))
    figures.count(connection, keep_house(connection))
    assert counted() == {"deliveries http:failed": 1}


def shown(metrics: EventMetrics) -> dict[str, float]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_the_page_shows_how_it_stands(
    user: User, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    event = event_of(user)
    owe(event, 2, due_at=now - timedelta(seconds=100))
    owe(event, due_at=now + timedelta(hours=1))
    owe(event, status=Delivery.Status.SENT)
    Observation.objects.create(
        event=event.pk, what=Observation.What.MATCHED, at=now, stored_at=now - timedelta(seconds=50)
    )
    for device, state in enumerate(("ok", "firing", "firing", "no data")):
        Condition.objects.create(event=event, device=device, state=state, since=now, at=now)
    figures.count(connection, figures.Counted({figures.of_delivery("email", "left out"): 7}))
    figures.count(connection, figures.Counted({figures.of_delivery("email", "left out"): 1}))
    metrics = EventMetrics()
    assert not shown(metrics)
    metrics.start()
    try:
        wait_until(lambda: shown(metrics), what="the first look")
        page = shown(metrics)
    finally:
        metrics.stop()
    assert page['thingscale_deliveries_total{outcome="left_out",transport="email"}'] == 8
    assert page['thingscale_deliveries_total{outcome="sent",transport="contact"}'] == 0
    assert page["thingscale_matches_total"] == 0
    assert page["thingscale_deliveries_waiting"] == 3
    assert 100 <= page["thingscale_deliveries_overdue_seconds"] < 200
    assert page["thingscale_observations_waiting"] == 1
    assert 50 <= page["thingscale_observations_oldest_seconds"] < 150
    states = {state: page[f'thingscale_conditions{{state="{state}"}}'] for state in ("firing", "no_data")}
    assert states == {"firing": 2, "no_data": 1}
    monkeypatch.setattr(metrics, "_read_at", metrics._read_at - OLD_SECONDS)
    assert not shown(metrics)
