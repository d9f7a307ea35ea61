"""Wills (3.1.2.5, 3.1.3.2, 3.14.4): when they are published, and as what."""

import time
from typing import Any

import pytest
from brokers import LASTING, Broker, resume
from client import Client
from test_publish import PROPERTIES
from versions import ALL_VERSIONS, VERSION_5

from ingest.mqtt.packets import V5, Version, Will


def will(
    broker: Broker,
    qos: int = 1,
    retain: bool = False,
    payload: bytes = b"gone",
    properties: dict[int, Any] | None = None,
) -> Will:
    return Will(broker.topic(), payload, qos, retain, properties or {})


def watcher(broker: Broker, version: Version = V5) -> Client:
    """Subscribed to where the will goes."""
    client = broker.connect("w", version)
    client.subscribe(broker.topic(), as_published=True)
    return client


def next_is(watching: Client, broker: Broker, payload: bytes = b"next") -> None:
    """Nothing came in front of what is published now."""
    broker.connect("p").publish(broker.topic(), payload, 1)
    watching.message(payload)


@pytest.mark.parametrize("qos", [0, 1, 2])
@ALL_VERSIONS
def test_a_will_is_published_when_the_wire_breaks(broker: Broker, version: Version, qos: int) -> None:
    watching = watcher(broker, version)
    broker.connect("a", version, will=will(broker, qos)).vanish()
    assert watching.message(b"gone", qos).topic == broker.topic()


@ALL_VERSIONS
def test_a_will_is_published_after_a_protocol_error(broker: Broker, version: Version) -> None:
    watching = watcher(broker)
    client = broker.connect("a", version, will=will(broker))
    client.send(b"\0\0")
    client.closed()
    watching.message(b"gone", 1)


@ALL_VERSIONS
def test_a_will_is_discarded_by_disconnect(broker: Broker, version: Version) -> None:
    watching = watcher(broker)
    client = broker.connect("a", version, will=will(broker))
    client.disconnect()
    next_is(watching, broker)


@ALL_VERSIONS
def test_a_will_is_published_once(broker: Broker, version: Version) -> None:
    """It goes with its connection: the next one of the same session has none."""
    watching = watcher(broker)
    client = broker.client("a", version)
    expiry = {0x11: LASTING} if version == V5 else {}
    client.connect(clean=False, will=will(broker), properties=expiry)
    client.vanish()
    watching.message(b"gone")
    resume(client)
    client.vanish()
    resume(client)
    next_is(watching, broker)


@ALL_VERSIONS
def test_a_connection_without_a_will_publishes_none(broker: Broker, version: Version) -> None:
    watching = watcher(broker)
    broker.connect("a", version, will=will(broker)).disconnect()
    broker.connect("a", version).vanish()
    next_is(watching, broker)


@ALL_VERSIONS
def test_a_will_is_retained_only_if_it_says_so(broker: Broker, version: Version) -> None:
    watching = watcher(broker)
    broker.connect("a", version, will=will(broker)).vanish()
    assert not watching.message(b"gone").retain
    fresh = broker.connect("b", version)
    fresh.subscribe(broker.topic())
    fresh.nothing()
    broker.connect("a", version, will=will(broker, retain=True, payload=b"kept")).vanish()
    assert watching.message(b"kept").retain
    fresh = broker.connect("c", version)
    fresh.subscribe(broker.topic())
    assert fresh.message(b"kept").retain


@ALL_VERSIONS
def test_an_empty_retained_will_clears(broker: Broker, version: Version) -> None:
    watching = watcher(broker)
    client = broker.connect("a", version, will=will(broker, retain=True, payload=b""))
    client.publish(broker.topic(), b"online", retain=True)
    watching.message(b"online")
    client.vanish()
    watching.message(b"")
    fresh = broker.connect("b", version)
    fresh.subscribe(broker.topic())
    fresh.nothing()


@ALL_VERSIONS
def test_a_will_is_published_when_its_session_is_taken_over(broker: Broker, version: Version) -> None:
    watching = watcher(broker)
    client = broker.connect("a", version, will=will(broker))
    broker.connect("a", version)
    client.closed(0x8E)
    watching.message(b"gone")


@VERSION_5
def test_a_disconnect_may_ask_for_the_will(broker: Broker, version: Version) -> None:
    watching = watcher(broker)
    client = broker.connect("a", version, will=will(broker))
    client.disconnect(0x04)
    watching.message(b"gone")


@pytest.mark.parametrize("kind", ["topic", "data"])
@VERSION_5
def test_the_properties_of_a_will_reach_subscribers_unaltered(
    broker: Broker, version: Version, kind: str
) -> None:
    topic = broker.topic() if kind == "topic" else broker.data("a")
    watching = broker.connect("w", version)
    watching.subscribe(topic, 1)
    properties = PROPERTIES | {0x08: broker.topic(9)}
    broker.connect("a", version, will=Will(topic, b"1", 1, False, properties)).vanish()
    assert watching.message(b"1", 1).properties == properties


@VERSION_5
def test_a_will_waits_for_its_delay(broker: Broker, version: Version) -> None:
    """Or for the end of its session, if that is earlier; and is not sent to who comes back in time. Its own
    expiry counts from its publication."""
    watching = broker.connect("w", version)
    wills = {
        "delayed": ({0x18: 1}, LASTING),
        "with expiry": ({0x18: 1, 0x02: 60}, LASTING),
        "of a session that ends": ({0x18: 600}, 1),
        "of a client that comes back": ({0x18: 1}, LASTING),
    }
    clients = {}
    for number, (name, (properties, expiry)) in enumerate(wills.items()):
        watching.subscribe(broker.topic(number), 1)
        left = Will(broker.topic(number), name.encode(), 1, False, properties)
        clients[name] = broker.connect(f"a{number}", version, will=left, properties={0x11: expiry})
    started = time.monotonic()
    for client in clients.values():
        client.vanish()
    resume(clients["of a client that comes back"])
    received = {packet.payload.decode(): packet for packet in (watching.message() for _ in range(3))}
    assert time.monotonic() - started > 0.9
    assert set(received) == {"delayed", "with expiry", "of a session that ends"}
    assert received["delayed"].properties == {}
    assert received["with expiry"].properties == {0x02: 60}
    watching.nothing()


@VERSION_5
def test_a_delayed_will_is_sent_when_its_session_ends(broker: Broker, version: Version) -> None:
    """By a clean start, before its delay is over."""
    watching = watcher(broker)
    delayed = will(broker, properties={0x18: 600})
    client = broker.connect("a", version, will=delayed, properties={0x11: LASTING})
    client.vanish()
    client.connect()
    watching.message(b"gone")


@ALL_VERSIONS
def test_a_will_waits_for_a_durable_session(broker: Broker, version: Version) -> None:
    away, watching = broker.durable("d", version), watcher(broker)
    away.subscribe(broker.topic())
    away.disconnect()
    broker.connect("a", version, will=will(broker, 2)).vanish()
    watching.message(b"gone")
    resume(away)
    away.message(b"gone", 2)


@ALL_VERSIONS
def test_the_will_of_a_session_taken_over_reaches_the_session_itself(
    broker: Broker, version: Version
) -> None:
    """It is published by the old connection, and the session, which goes on, is subscribed."""
    client = broker.client("a", version)
    expiry = {0x11: LASTING} if version == V5 else {}
    client.connect(clean=False, will=will(broker), properties=expiry)
    client.subscribe(broker.topic())
    second = broker.client("a", version)
    resume(second)
    client.closed(0x8E)
    second.message(b"gone")
    second.nothing()
