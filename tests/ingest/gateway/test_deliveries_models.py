"""Sequences of messages, answers, reconnects and crashes, against models of the database and the client.

Every limit is a few messages, so that all of them are met often.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from delivering import NOW, packets, puback, pubcomp, pubrec
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.gateway import deliveries
from ingest.gateway.deliveries import (
    ClientLimits,
    Deliveries,
    DeliveryTotals,
    DurableDeliveries,
    Effects,
    Flow,
)
from ingest.gateway.outgoing_message import Delivery, OutgoingMessage
from ingest.mqtt.packets import PUBREL, V5, V311, Ack, Packet, ProtocolError, Publish, Version

MAX_WAITING = 4
MAX_WAITING_BYTES = 60
READ_MESSAGES = 3
MAX_IN_FLIGHT = 4


@contextmanager
def narrow_limits() -> Iterator[None]:
    with mock.patch.multiple(
        deliveries,
        MAX_WAITING=MAX_WAITING,
        MAX_WAITING_BYTES=MAX_WAITING_BYTES,
        READ_MESSAGES=READ_MESSAGES,
        MAX_IN_FLIGHT=MAX_IN_FLIGHT,
        MAX_WRITE=30,
    ):
        yield


class Client:
    """Does what section 4.3 says, and notes what it was given. Its memory outlives connections."""

    def __init__(self) -> None:
        self.received: list[Publish] = []  # what the application gets
        self.incomplete: set[int] = set()  # QoS 2: packet ids that await PUBREL
        self.completed_qos_1: set[bytes] = set()

    def handle(self, packet: Packet) -> Ack | None:
        match packet:
            case Publish(qos=0):
                self.received.append(packet)
                return None
            case Publish(qos=1):
                self.received.append(packet)
                return puback(packet.packet_id)
            case Publish():
                if packet.packet_id not in self.incomplete:
                    self.incomplete.add(packet.packet_id)
                    self.received.append(packet)
                return pubrec(packet.packet_id)
            case Ack(type=type_):
                assert type_ == PUBREL
                self.incomplete.discard(packet.packet_id)
                return pubcomp(packet.packet_id)
            case _:
                raise AssertionError(packet)


class Connection:
    """Two directions, each with what is on its way."""

    def __init__(self, out: Deliveries, version: Version) -> None:
        self.out = out
        self.version = version
        self.to_client: list[Packet] = []
        self.to_server: list[Ack] = []

    def write(self, data: bytes) -> None:
        self.to_client += packets(data, self.version)


class Database:
    """A durable session's rows. What is written here is committed."""

    def __init__(self, next_seq: int, keeps_received: bool) -> None:
        self.next_seq = next_seq
        self.keeps_received = keeps_received  # a message until PUBCOMP, or only until PUBREC
        self.messages: dict[int, Delivery] = {}
        self.released: set[int] = set()
        self.sent_through = next_seq - 1

    @property
    def first(self) -> int:
        return min([*self.messages, *self.released], default=self.next_seq)


class DurableSession:
    """The caller of DurableDeliveries, with a store whose commits and reads take time."""

    def __init__(
        self, database: Database, limits: ClientLimits, version: Version, account: DeliveryTotals
    ) -> None:
        self.database = database
        self.client = Client()
        self.limits = limits
        self.version = version
        self.totals = account
        self.connection: Connection | None = None
        self.operations: list[tuple[str, int]] = []  # handed to the store, not committed
        self.read: tuple[list[Delivery], bool] | None = None
        self.published: list[tuple[bytes, int]] = []
        self.committed: list[Delivery] = []

    @property
    def out(self) -> DurableDeliveries:
        assert self.connection
        assert isinstance(self.connection.out, DurableDeliveries)
        return self.connection.out

    def apply(self, outcome: Effects) -> None:
        assert self.connection
        self.connection.write(outcome.write)
        self.operations += [("done", seq) for seq in outcome.done]
        if outcome.received:
            self.operations.append(("received", outcome.received))

    def publish(self, qos: int, size: int, gap: int) -> None:
        payload = b"%d" % len(self.published) + b"." * size
        seq = 0
        if qos:
            seq = self.database.next_seq + gap
            self.database.next_seq = seq + 1
        elif not self.connection:
            return
        one = Delivery(OutgoingMessage("a", payload, {}), qos, seq=seq)
        self.published.append((payload, qos))
        if qos:
            self.database.messages[seq] = one
            self.committed.append(one)
        elif self.connection:
            self.apply(self.out.deliver(one, NOW))

    def route(self, count: int) -> None:
        """After the commit, and perhaps to another connection than there was then."""
        now, self.committed = self.committed[:count], self.committed[count:]
        for one in now:
            if self.connection:
                self.apply(self.out.deliver(one, NOW))

    def commit(self, count: int) -> None:
        now, self.operations = self.operations[:count], self.operations[count:]
        for operation, seq in now:
            if operation == "received":
                if not self.database.keeps_received:
                    del self.database.messages[seq]
                self.database.released.add(seq)
                if self.connection:
                    self.apply(self.out.receipt_stored(seq))
            else:
                self.database.messages.pop(seq, None)
                self.database.released.discard(seq)

    def client_reads(self, count: int) -> None:
        if self.connection:
            for packet in self.connection.to_client[:count]:
                answer = self.client.handle(packet)
                if answer:
                    self.connection.to_server.append(answer)
            del self.connection.to_client[:count]

    def server_reads(self, count: int) -> None:
        for _ in range(count):
            if self.connection and self.connection.to_server:
                self.acknowledge(self.connection.to_server.pop(0))

    def acknowledge(self, ack: Ack) -> None:
        try:
            outcome = self.out.acknowledge(ack, NOW)
        except ProtocolError:
            self.disconnect()
        else:
            self.apply(outcome)

    def exchange(self, count: int) -> None:
        for _ in range(count):
            self.client_reads(1)
            self.server_reads(1)

    def begin_read(self, early: int = 0) -> None:
        """The rows are those of now, though they come later; some come that were not asked for."""
        if not self.connection or self.read:
            return
        wanted = self.out.begin_read()
        if wanted:
            rows = sorted(self.database.messages.items())
            earlier = [row for seq, row in rows if seq < wanted.seq][-early:] if early else []
            rest = [row for seq, row in rows if seq >= wanted.seq]
            self.read = earlier + rest[: wanted.messages], len(rest) > wanted.messages

    def end_read(self, fails: bool) -> None:
        if not self.connection or not self.read:
            return
        rows, more = self.read
        self.read = None
        if fails:
            self.out.fail_read()
        else:
            self.apply(self.out.end_read(rows, more, NOW))

    def disconnect(self) -> None:
        """Both directions are lost; what was handed to the store is committed in its time."""
        if self.connection:
            self.database.sent_through = self.out.sent_through
            self.out.close()
            self.connection = self.read = None

    def crash(self) -> None:
        """What was not committed is lost, too; anything in the queue may have been sent."""
        if self.connection:
            self.out.close()
            self.database.sent_through = self.database.next_seq - 1
        self.connection = self.read = None
        self.operations.clear()
        self.committed.clear()

    def reconnect(self) -> None:
        self.disconnect()
        self.connect()

    def crash_and_connect(self) -> None:
        self.crash()
        self.connect()

    def connect(self) -> None:
        if self.connection:
            return
        self.commit(len(self.operations))
        out = DurableDeliveries(self.version, "T/", self.totals, self.limits)
        self.connection = Connection(out, self.version)
        rows = self.database
        self.apply(out.resume(rows.first, rows.next_seq - 1, rows.sent_through, rows.released))

    def congest(self, congested: bool) -> None:
        if self.connection:
            self.out.congested = congested
            self.apply(self.out.advance(NOW))

    def misbehave(self, kind: int, packet_id: int) -> None:
        """What a correct client would not send now, if it can harm nobody but this client: an answer to
        nothing, an answer of the wrong kind, a second PUBREC."""
        if not self.connection:
            return
        ack = (puback, pubrec, pubcomp)[kind](packet_id)
        flow = (self.out._open or {}).get(packet_id)
        right = {Flow.PUBACK: puback, Flow.PUBREC: pubrec, Flow.PUBCOMP: pubcomp}.get(flow)  # type: ignore[arg-type]
        if flow is None or not right or ack != right(packet_id):
            self.acknowledge(ack)

    def repeat_receipts(self) -> None:
        """Some clients send PUBREC again after a reconnect."""
        if self.connection:
            self.connection.to_server += [pubrec(packet_id) for packet_id in sorted(self.client.incomplete)]

    def check(self) -> None:
        if not self.connection:
            assert self.totals.waiting_bytes == 0
            return
        out = self.out
        window = min(self.limits.receive_maximum, MAX_IN_FLIGHT)
        resumed = len(out._finished)
        assert out.in_flight <= max(window, resumed)
        assert out.waiting <= MAX_WAITING
        assert out._waiting_bytes == sum(one.message.size for one in out._waiting or ())
        assert out._waiting_bytes == self.totals.waiting_bytes <= self.totals.max_waiting_bytes
        assert out._waiting_bytes <= MAX_WAITING_BYTES
        if out._open:
            seqs = [out._seq(packet_id) for packet_id in out._open]
            assert all(
                seq in self.database.messages
                or seq in self.database.released
                or ("done", seq) in self.operations
                for seq in seqs
            )

    def finish(self) -> None:
        """All goes well from here on: everything arrives, without further prompting than a caller gives."""
        self.connect()
        self.congest(False)
        idle = 0
        for _ in range(10_000):
            self.route(2)
            self.begin_read()
            reading = self.read is not None
            self.end_read(fails=False)
            self.client_reads(2)
            self.server_reads(2)
            self.commit(2)
            self.check()
            if not self.connection:  # it had sent something wrong before
                self.connect()
            elif self.out.ready:
                self.apply(self.out.advance(NOW))
            busy = reading or bool(self.committed or self.operations)
            if connection := self.connection:
                busy = busy or connection.out.ready or bool(connection.to_client or connection.to_server)
            idle = 0 if busy else idle + 1
            if idle == 2:
                break
        else:
            raise AssertionError("it never comes to rest")
        assert not self.out.behind
        assert (self.out.in_flight, self.out.waiting) == (0, 0)
        assert not self.database.messages
        assert not self.database.released
        assert not self.client.incomplete


def check_received(client: Client, published: list[tuple[bytes, int]], *, all_of_them: bool) -> None:
    """QoS 2 once, QoS 1 at least once and again only with DUP, and each in order."""
    for qos in (1, 2):
        wanted = [payload for payload, with_qos in published if with_qos == qos]
        seen: set[bytes] = set()
        first_times = []
        for packet in client.received:
            if packet.qos == qos:
                if packet.payload in seen:
                    assert qos == 1
                    assert packet.dup
                else:
                    first_times.append(packet.payload)
                seen.add(packet.payload)
        if all_of_them:
            assert first_times == wanted
        assert first_times == [payload for payload in wanted if payload in seen]


QOS = (0, 1, 2)
SIZES = (0, 0, 5, 30)
GAPS = (0, 0, 0, 1, 5)  # of numbers: what has expired or was left out
COUNTS = range(1, 7)
SOMETIMES = (False, False, False, True)
STEPS: tuple[tuple[tuple[str, ...], tuple[Sequence[Any], ...]], ...] = (  # names of methods, arguments
    *[(("publish",), (QOS, SIZES, GAPS))] * 3,
    *[(("route",), (COUNTS,))] * 2,
    *[(("client_reads", "server_reads", "exchange", "exchange"), (COUNTS,))] * 3,
    (("commit",), (COUNTS,)),
    (("begin_read",), ((0, 0, 1, 3),)),
    (("end_read",), (SOMETIMES,)),
    (("reconnect", "crash_and_connect", "disconnect", "crash", "connect", "connect"), ()),
    (("congest",), (SOMETIMES,)),
    (("misbehave",), (range(3), (1, 2, 3, 65_534, 65_535))),
    (("repeat_receipts",), ()),
)
CONFIGURATIONS: tuple[Sequence[Any], ...] = (
    (1, 65_530, 65_533, 131_066),  # the first seq
    (1, 2, 3, 65_535),  # Receive Maximum
    (V311, V5),
    (40, 10_000),  # bytes that the account's queues may take
    (False, True),  # whether the database keeps a message until PUBCOMP
)


def run(configuration: Sequence[Any], steps: Iterable[Sequence[Any]]) -> None:
    next_seq, receive_maximum, version, account, keeps_received = configuration
    with narrow_limits():
        database = Database(next_seq, keeps_received)
        session = DurableSession(database, ClientLimits(receive_maximum), version, DeliveryTotals(account))
        session.connect()
        for name, *arguments in steps:
            getattr(session, name)(*arguments)
            session.check()
        session.finish()
    check_received(session.client, session.published, all_of_them=True)
    assert sum(packet.qos == 0 for packet in session.client.received) <= sum(
        qos == 0 for _, qos in session.published
    )


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(*map(st.sampled_from, CONFIGURATIONS)),
    st.lists(
        st.one_of(
            *(
                st.tuples(st.sampled_from(names), *map(st.sampled_from, arguments))
                for names, arguments in STEPS
            )
        ),
        min_size=10,
        max_size=60,
    ),
)
def test_a_durable_session_loses_and_doubles_nothing(
    configuration: Sequence[Any], steps: list[tuple[Any, ...]]
) -> None:
    run(configuration, steps)


@pytest.mark.parametrize("seed", range(20))
def test_a_durable_session_loses_and_doubles_nothing_in_any_order(seed: int) -> None:
    """Evenly random: finds orders of eight certain steps that the other test rarely comes to. That one finds
    what it can shorten."""
    choose = random.Random(seed).choice
    for _ in range(50):
        configuration = [choose(values) for values in CONFIGURATIONS]
        steps = []
        for _ in range(choose(range(10, 60))):
            names, arguments = choose(STEPS)
            steps.append((choose(names), *(choose(values) for values in arguments)))
        try:
            run(configuration, steps)
        except AssertionError as error:
            raise AssertionError(f"{error}\nconfiguration: {configuration}\nsteps: {steps}") from error


PUBLISHES = st.tuples(st.just("publish"), *map(st.sampled_from, (QOS, SIZES, GAPS)))
CLEAN_STEPS = st.one_of(
    PUBLISHES,
    PUBLISHES,
    st.tuples(st.just("client"), st.sampled_from(COUNTS), st.none(), st.none()),
    st.tuples(st.just("server"), st.sampled_from(COUNTS), st.none(), st.none()),
    st.tuples(st.just("congest"), st.booleans(), st.none(), st.none()),
    st.tuples(st.just("wrong"), st.integers(0, 2), st.integers(1, 3), st.none()),
)


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(CLEAN_STEPS, min_size=10, max_size=60),
    receive_maximum=st.sampled_from([1, 2, 3, 65_535]),
    last_id=st.sampled_from([0, 65_533]),
    version=st.sampled_from([V311, V5]),
    aliases=st.sampled_from([0, 1]),
)
def test_a_clean_session_sends_once_and_in_order_and_counts_what_it_drops(
    steps: list[Any], receive_maximum: int, last_id: int, version: Version, aliases: int
) -> None:
    totals = DeliveryTotals(50)
    client = Client()
    published: list[tuple[bytes, int]] = []
    with narrow_limits():
        out = Deliveries(
            version, "T/", totals, ClientLimits(receive_maximum, 2**32, aliases if version == V5 else 0)
        )
        out._newest = last_id
        connection = Connection(out, version)
        for name, one, two, _ in [*steps, ("congest", False, None, None), *[("client", 9, 0, 0)] * 20]:
            match name:
                case "publish":
                    payload = b"%d" % len(published) + b"." * two
                    published.append((payload, one))
                    connection.write(out.deliver(Delivery(OutgoingMessage("a", payload, {}), one), NOW).write)
                case "client" | "server":
                    if name == "client":
                        answers = [client.handle(packet) for packet in connection.to_client[:one]]
                        connection.to_server += [answer for answer in answers if answer]
                        del connection.to_client[:one]
                    for ack in connection.to_server[:one]:
                        outcome = out.acknowledge(ack, NOW)
                        assert (outcome.done, outcome.received) == ((), 0)
                        connection.write(outcome.write)
                    del connection.to_server[:one]
                case "congest":
                    out.congested = one
                    connection.write(out.advance(NOW).write)
                case "wrong" if two not in (out._open or {}):
                    two += 30_000 * (one == 1)  # noqa: PLW2901  after a PUBREC comes a PUBCOMP: of an unused id
                    connection.write(out.acknowledge((puback, pubrec, pubcomp)[one](two), NOW).write)
            assert out.in_flight <= min(receive_maximum, MAX_IN_FLIGHT)
            assert out.waiting <= MAX_WAITING
            assert out._waiting_bytes == totals.waiting_bytes <= 50
    assert (out.in_flight, out.waiting, totals.waiting_bytes) == (0, 0, 0)
    assert not any(packet.dup for packet in client.received)
    check_received(client, published, all_of_them=False)
    assert len({packet.payload for packet in client.received}) == len(client.received)
    assert len(client.received) + totals.dropped == len(published)
