"""What mosquitto 2.0.11 does wrong, or cannot do: a reason and a rule for each. Nothing else is tolerated."""

from collections.abc import Callable
from typing import NamedTuple

from ingest.mqtt.packets import Publish
from ingest.mqtt.properties import Property
from model.model import Delivery, Session, State
from model.steps import SHORT


class Fault(NamedTuple):
    kind: str
    reason: str
    applies: Callable[[Session, Publish | None, Delivery | None], bool]


def _always(_session: Session, _packet: Publish | None, _delivery: Delivery | None) -> bool:
    return True


def _full(session: Session, _packet: Publish | None, _delivery: Delivery | None) -> bool:
    return session.held or session.released or session.resumed or session.receive_maximum > 0


def _released(session: Session, packet: Publish | None, delivery: Delivery | None) -> bool:
    again = packet is not None and packet.dup and session.resumed
    return again and delivery is not None and delivery.lost and delivery.state is State.RELEASED


def _clean(session: Session, _packet: Publish | None, _delivery: Delivery | None) -> bool:
    return session.clean


def _last_second(_session: Session, packet: Publish | None, delivery: Delivery | None) -> bool:
    left_out = packet is not None and Property.MESSAGE_EXPIRY_INTERVAL not in packet.properties
    return left_out and delivery is not None and delivery.message.expiry == SHORT


MOSQUITTO: list[Fault] = [
    Fault("kept options", "SUBSCRIBE again changes QoS and identifier, not No Local and RAP.", _always),
    Fault("will kept", "It publishes no will of a durable session whose connection is taken over.", _always),
    Fault(
        "delayed will",
        "It publishes no delayed will when its session ends: not at all, or at its time.",
        _always,
    ),
    Fault("receive maximum", "It sends more than that once messages had to wait for a place in it.", _always),
    Fault("not saved", "It saves no session whose last CONNECT had Clean Start.", _clean),
    Fault("shared not saved", "It saves no shared subscription.", _always),
    Fault("order", "A message that finds a place in the window passes those that wait for one.", _full),
    Fault(
        "packet identifier", "After a restart it begins a QoS 2 delivery again behind its PUBREL.", _released
    ),
    Fault("expiry", "It leaves the Message Expiry Interval out in its last second.", _last_second),
    Fault("shared retained", "It sends retained messages for a shared subscription, too.", _always),
]


def tolerates(
    faults: list[Fault], kind: str, session: Session, packet: Publish | None, delivery: Delivery | None
) -> bool:
    return any(fault.kind == kind and fault.applies(session, packet, delivery) for fault in faults)
