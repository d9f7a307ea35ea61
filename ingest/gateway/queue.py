"""What the connected client of a durable session has acknowledged of its queue. The database has the same, a
little later."""

from collections.abc import Iterable, Iterator

from ingest.gateway.deliveries import DurableDeliveries, Effects
from ingest.gateway.outgoing_message import Delivery
from ingest.gateway.publishes import new_message
from ingest.stored_packet import read_packets
from thingscale.devices.mqtt_store.queues import Progress, QueuedRow
from thingscale.devices.mqtt_store.sessions import Opened
from thingscale.lib.clock import now_us


class Queue:
    def __init__(self, session: int, deliveries: DurableDeliveries, opened: Opened) -> None:
        self.deliveries = deliveries
        self._session = session
        self._done_seq = opened.done_seq  # all up to here are acknowledged
        self._done = set(opened.done)  # and these
        self._received = set(opened.received_seq)  # at QoS 2; PUBREL is due
        self.changed = False  # since `progress` was asked for

    @property
    def sent_seq(self) -> int:
        return self.deliveries.sent_through

    def resume(self, opened: Opened, newest: int) -> Effects:
        """`newest`: number of the last message that was routed since the session was opened in the
        database."""
        last = max(opened.next_seq - 1, newest)
        sent = opened.next_seq - 1 if opened.sent_seq is None else opened.sent_seq
        return self.deliveries.resume(opened.done_seq + 1, last, sent, opened.received_seq, opened.done)

    def read_rows(self, rows: Iterable[QueuedRow]) -> Iterator[Delivery]:
        now = now_us()
        for _, first, last, options, identifiers, packets, at, command in rows:
            for number, publish in enumerate(read_packets(packets, last - first + 1), first):
                topic, payload, qos, retain, _, _, properties = publish
                message = new_message(topic, payload, properties, command, (now - at) / 1e6)
                shown = retain and bool(options & 8)
                yield Delivery(message, min(qos, options & 3), shown, tuple(identifiers), number)

    def finish(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number == self._done_seq + 1:  # most are
                self._done_seq = number
            else:
                self._done.add(number)
            if self._received:
                self._received.discard(number)
        while self._done and self._done_seq + 1 in self._done:
            self._done_seq += 1
            self._done.discard(self._done_seq)

    def receive(self, number: int) -> None:
        self._received.add(number)

    def progress(self, received_packets: list[int]) -> Progress:
        self.changed = False
        return Progress(
            self._session, self._done_seq, sorted(self._done), sorted(self._received), received_packets
        )
