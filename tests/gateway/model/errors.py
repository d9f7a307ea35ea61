"""Deliberate errors of a server, made between its socket and the model, which has to find each."""

from collections.abc import Callable

from ingest.mqtt.packets import Packet, Publish
from ingest.mqtt.properties import Property
from model.client import Alter
from model.model import OBSERVER


def too_high_qos() -> Alter:
    """A QoS 0 message that is told as QoS 1."""
    return _publish(lambda one: one._replace(qos=1, packet_id=60_000) if one.qos == 0 else one)


def no_dup() -> Alter:
    return _publish(lambda one: one._replace(dup=False))


def no_retain_flag() -> Alter:
    return _publish(lambda one: one._replace(retain=False))


def no_user_properties() -> Alter:
    def without(one: Publish) -> Publish:
        left = {key: value for key, value in one.properties.items() if key != Property.USER_PROPERTY}
        return one._replace(properties=left)

    return _publish(without)


def sent_twice() -> Alter:
    """Each hundredth message is the one before it once more."""
    last: list[Publish] = []

    def again(one: Publish) -> Publish:
        last.append(one)
        return one if len(last) % 100 else last[-2]._replace(qos=one.qos, packet_id=one.packet_id)

    return _publish(again)


def lost() -> Alter:
    """Each hundredth message does not come."""
    count = 0

    def alter(client: str, packet: Packet) -> Packet | None:
        nonlocal count
        if client != OBSERVER and isinstance(packet, Publish) and packet.qos:
            count += 1
            if count % 100 == 0:
                return None
        return packet

    return alter


def swapped() -> Alter:
    """A retained message and its clear in the wrong order."""
    held: dict[str, Publish] = {}

    def alter(client: str, packet: Packet) -> Packet | None:
        if client == OBSERVER or not isinstance(packet, Publish) or packet.qos != 1 or packet.dup:
            return packet
        before = held.get(client)
        held[client] = packet
        if before and before.topic == packet.topic and before.payload and not packet.payload:
            return packet._replace(payload=before.payload)
        return packet

    return alter


def _publish(change: Callable[[Publish], Publish]) -> Alter:
    def alter(client: str, packet: Packet) -> Packet | None:
        return change(packet) if client != OBSERVER and isinstance(packet, Publish) else packet

    return alter


ERRORS: dict[str, Callable[[], Alter]] = {
    one.__name__: one
    for one in (too_high_qos, no_dup, no_retain_flag, no_user_properties, sent_twice, lost, swapped)
}
