"""A server that an operator stops and starts again: what was acknowledged is still there."""

import pytest
from brokers import LASTING, Broker, resume
from versions import NEW_VERSIONS

from ingest.mqtt.packets import PUBCOMP, PUBREC, PUBREL, V5, V311, Ack, Publish, Version, Will

pytestmark = pytest.mark.e2e


def test_what_was_acknowledged_outlives_a_restart(broker: Broker) -> None:
    """Wills at the end, the reason for MQTT 5, sessions, queues, retained messages, QoS 2 of both directions."""
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
    assert resume(sender)
    sender.send(Ack(PUBREL, 5, 0, {}))
    sender.ack(PUBCOMP, 5)
    for client, first, second in zip(watchers, opened, released, strict=True):
        assert resume(client)
        packets = [client.expect(Publish), client.expect(Ack)]
        assert packets[0] == first._replace(dup=True)
        assert packets[1][:2] == (PUBREL, second.packet_id)
        client.send(Ack(PUBCOMP, second.packet_id, 0, {}))
        client.send(Ack(PUBREC, first.packet_id, 0, {}))
        client.ack(PUBREL, first.packet_id)
        client.send(Ack(PUBCOMP, first.packet_id, 0, {}))
        assert {client.message().payload for _ in range(2)} == {b"held", b"gone"}
        client.subscribe(broker.topic(4))
        assert client.message(b"kept").retain
        client.nothing()
