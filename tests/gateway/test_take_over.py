"""A client that connects again while messages of it, or for it, are on their way to storage."""

import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest
from client import Client, Endpoint
from django.db import connection
from stack import Stack, free_port, wait_until
from support import Account

from ingest.mqtt.packets import (
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    V311,
    Ack,
    ConnAck,
    PingReq,
    PingResp,
    Publish,
    Version,
)

pytestmark = pytest.mark.e2e
SENT = [b"%d" % number for number in range(1, 7)]


@pytest.fixture
def ended() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
def test_what_a_full_queue_kept_back_is_known_to_the_next_connection(
    transactional_db: None, account: Account, ended: ExitStack, version: Version
) -> None:
    """At QoS 2, where nothing but the session's packet ids tells it from a new message: delivered once,
    although the client sends it again."""
    metrics = free_port()
    running = Stack(THINGSCALE_QUEUE_MESSAGES="4", THINGSCALE_METRICS_PORT=str(metrics))
    ended.callback(running.stop)
    running.ensure("ingest")
    endpoint = Endpoint(running.mqtt, account.user_id, account.device_token.encode())
    topic = f"{account.device_token}/d/subscribe"
    ear, sender, again = (Client(endpoint, name, version) for name in ("ear", "sender", "sender"))
    properties = {0x11: 600} if version == V5 else None
    for client in (ear, sender, again):
        ended.callback(client.vanish)
    ear.connect(clean=False, properties=properties)
    ear.subscribe(topic, 2)
    sender.connect(clean=False, properties=properties)
    messages = [
        Publish(topic, payload, 2, False, False, number, {}) for number, payload in enumerate(SENT, 1)
    ]

    def shows(figure: str) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=60) as page:
            return f"thingscale_{figure}\n" in page.read().decode()

    parameters = connection.get_connection_params()
    with psycopg.connect(**parameters) as other:
        other.execute("LOCK TABLE mqtt_message IN ACCESS EXCLUSIVE MODE")
        sender.send(messages[0])
        wait_until(lambda: shows("queue_messages 2.0"), 60, "the queue to be full")  # it has a copy
        sender.send(*messages[1:])
        wait_until(lambda: shows("waiting_chunks 1.0"), 60, "the rest to wait")
        again.dial()
        again.send(again.connect_packet(clean=False, properties=properties))
        sender.closed()
    answer = again.expect(ConnAck)
    assert (answer.code, answer.session_present) == (0, True)
    again.send(*(message._replace(dup=True) for message in messages))
    for number in range(1, 7):
        assert again.answer(Ack, number).type == PUBREC
        again.send(Ack(PUBREL, number, 0, {}))
        assert again.answer(Ack, number).type == PUBCOMP
    assert again.publish(topic, b"last") == 0
    assert [packet.payload for packet in ear.messages_until(b"last")] == SENT


def test_a_member_of_a_share_group_gets_what_was_chosen_for_it_while_it_connected(
    stack: Callable[..., Stack], account: Account, ended: ExitStack
) -> None:
    """After a restart its session comes from another gateway; the message is on its way to storage behind
    that, and chosen for the session as it was before."""
    running, topic = stack("ingest"), f"{account.device_token}/d/subscribe"
    endpoint = Endpoint(running.mqtt, account.user_id, account.device_token.encode())
    member, again, sender = (Client(endpoint, name, V5) for name in ("member", "member", "sender"))
    for client in (member, again, sender):
        ended.callback(client.vanish)
    member.connect(clean=False, properties={0x11: 600})
    member.subscribe(f"$share/g/{topic}", 1)
    member.vanish()
    running.kill("ingest")
    running.ensure("ingest")
    sender.connect()
    parameters = connection.get_connection_params()
    with psycopg.connect(**parameters) as other, psycopg.connect(**parameters, autocommit=True) as looking:
        other.execute("LOCK TABLE mqtt_session IN EXCLUSIVE MODE")
        again.dial()
        again.send(again.connect_packet(clean=False, properties={0x11: 600}))

        def opening() -> bool:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
            ((found,),) = looking.execute(waiting, ["%FROM mqtt_session%FOR UPDATE%"]).fetchall()
            return bool(found)

        wait_until(opening, 60, "the session to be opened")
        sender.send(Publish(topic, b"chosen", 1, False, False, 7, {}))
        sender.send(PingReq())
        sender.expect(PingResp)  # so it has been taken
    assert again.expect(ConnAck).session_present
    again.message(b"chosen")
