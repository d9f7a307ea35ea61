"""What mosquitto 2.0.11 does wrong, or cannot do: a reason and a rule for each. Nothing else is tolerated."""

from collections.abc import Callable
from typing import NamedTuple

from model.model import Delivery, Session

from ingest.mqtt.packets import Publish, topic_matches


class Fault(NamedTuple):
    kind: str
    reason: str
    applies: Callable[[Session, Publish | None, Delivery | None], bool]


def _always(_session: Session, _packet: Publish | None, _delivery: Delivery | None) -> bool:
    return True


def _shared(session: Session, packet: Publish | None, _delivery: Delivery | None) -> bool:
    filters = [one for one in session.subscriptions if one.startswith("$share/")]
    return packet is not None and packet.retain and any(topic_matches(one, packet.topic) for one in filters)


MOSQUITTO: list[Fault] = [
    Fault("kept options", "SUBSCRIBE again changes QoS and identifier, not No Local and RAP.", _always),
    Fault("will kept", "It publishes no will of a durable session whose connection is taken over.", _always),
    Fault("unexpected", "It sends retained messages for a shared subscription, too ([MQTT5 4.8.2]).", _shared),
]


def tolerates(
    faults: list[Fault], kind: str, session: Session, packet: Publish | None, delivery: Delivery | None
) -> bool:
    return any(fault.kind == kind and fault.applies(session, packet, delivery) for fault in faults)
