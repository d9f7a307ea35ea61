"""A server that an operator stops and starts again: what was acknowledged is still there."""

import pytest
from brokers import Broker, resume

from ingest.mqtt.packets import PUBCOMP, PUBREC, PUBREL, V5, V311, Ack, Publish, Will

pytestmark = pytest.mark.e2e


def test_what_was_acknowledged_outlives_a_restart(broker: Broker) -> None:
    """Wills, sessions, queues, retained messages, QoS 2 of both directions; and MQTT 5 is told the reason."""
    publisher = broker.connect("p")
    told = broker.connect("told", V5)
    watchers = [broker.durable(f"w{version}", version) for version in (V311, V5)]
    for client in watchers:
        for number in (1, 2, 3, 5):
            client.subscribe(broker.topic(number))
    will = Will(broker.topic(1), b"gone", 1, False, {})
    broker.connect("willing", V5, will=will)
    publisher.publish(broker.topic(4), b"kept", 1, retain=True)
    publisher.publish(broker.topic(2), b"open", 2)
    opened = [client.expect(Publish) for client in watchers]
    publisher.publish(broker.topic(3), b"released", 2)
    released = [client.expect(Publish) for client in watchers]
    for client, packet in zip(watchers, released, strict=True):
        client.send(Ack(PUBREC, packet.packet_id, 0, {}))
        client.ack(PUBREL, packet.packet_id)
    sender = broker.durable("sender")
    sender.send(Publish(broker.topic(5), b"held", 2, False, False, 5, {}))
    sender.ack(PUBREC, 5)
    broker.server.restart()
    told.closed(0x8B)
    resume(sender)
    sender.send(Ack(PUBREL, 5, 0, {}))
    sender.ack(PUBCOMP, 5)
    for client, first, second in zip(watchers, opened, released, strict=True):
        resume(client)
        assert client.answer(Ack)[:2] == (PUBREL, second.packet_id)
        assert client.expect(Publish) == first._replace(dup=True)
        client.send(Ack(PUBCOMP, second.packet_id, 0, {}))
        client.send(Ack(PUBREC, first.packet_id, 0, {}))
        assert client.answer(Ack, first.packet_id).type == PUBREL
        client.send(Ack(PUBCOMP, first.packet_id, 0, {}))
        client.subscribe(broker.topic(4))
        received = [client.message() for _ in range(3)]
        assert {packet.payload for packet in received} == {b"held", b"gone", b"kept"}
        client.nothing()
