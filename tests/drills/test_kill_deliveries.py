"""kill -9 of the worker that sends, and of its connection to PostgreSQL: each notification arrives."""

import random
import signal
import time
from collections import Counter

import psycopg
import pytest
from drill_load import LONG
from private_place import Place, private_place
from receivers import receiver
from stack import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.drill]

KILLS = 20 if LONG else 4
DELIVERIES = 10_000 if LONG else 1_500

EVENT = """INSERT INTO events_event (user_id, number, description, notify_type, post_url, enabled, source,
    operator, threshold, repeat, min_interval, created_at)
SELECT id, 1, 'Too warm', 'http', %s, true, 'temp', '>', '30', 'every', 0, now() FROM accounts_user
RETURNING user_id, id"""
OWED = """INSERT INTO events_delivery (id, user_id, event_id, transport, about, receiver, body)
SELECT id, %s, %s, 'http', 'match', %s, jsonb_build_object('event_id', 1, 'delivery_id', id)
FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, %s)) made"""


@pytest.mark.timeout(1800)
def test_each_arrives_at_least_once() -> None:
    with (
        private_place(THINGSCALE_NOTIFY_NETWORKS="127.0.0.0/8") as place,
        receiver() as there,
        psycopg.connect(place.url, autocommit=True) as connection,
    ):
        user, event = connection.execute(EVENT, [there.url]).fetchall()[0]
        place.stack.start("celery")
        for number in range(KILLS):
            host = there.url.split("/")[2]
            connection.execute(OWED, [user, event, host, DELIVERIES // KILLS])
            before = len(there.requests)
            wait_until(lambda: len(there.requests) > before + DELIVERIES // KILLS // 10)  # noqa: B023
            time.sleep(random.uniform(0, 0.3))  # anywhere
            if number % 2:
                end_connections(place)
            else:
                place.stack.kill("celery", signal.SIGKILL)
                place.stack.start("celery")
        # What was being sent when it was killed waits until it is seen that it is dead.
        wait_until(lambda: not waiting(connection), 300, "all to be sent")
        arrived = Counter(request.headers["x-delivery-id"] for request in there.requests)
        owed = {str(key) for (key,) in connection.execute("SELECT id FROM events_delivery")}
    assert set(arrived) == owed
    assert len(owed) == DELIVERIES
    again = sum(arrived.values()) - len(owed)
    assert again <= KILLS * 50  # what was in flight


def waiting(connection: psycopg.Connection) -> int:
    found = connection.execute("SELECT count(*) FROM events_delivery WHERE status <> 'sent'").fetchall()
    return int(found[0][0])


def end_connections(place: Place) -> None:
    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = 'thingscale-deliveries'"""
        )
