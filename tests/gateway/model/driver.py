"""Runs a script against a server, and holds what it does against the model after every step.

Nothing sleeps: a step ends when all that the model requires has come and every connection has answered a
PING. What comes later and was not owed is found in a later step, as every payload is used once.
"""

import random
import select
import time
from collections.abc import Callable, Iterable
from typing import assert_never

from ingest.mqtt import packets
from ingest.mqtt.codec import encode, encode_ack
from ingest.mqtt.packets import PUBREL, V5, V31, V311, Packet, Properties, Publish, Version
from ingest.mqtt.properties import Property as P
from model import steps
from model.client import Alter, Client, Connection, Event, Holding, Outgoing
from model.model import OBSERVER, Divergence, Message, Model, Presence, Session, Subscription
from model.servers import Server
from model.steps import CLIENTS, NEVER, SENTINEL, Step

SECONDS = 60.0
WAIT_SECONDS = steps.SHORT + 2.7  # until the model is sure, too
STYLES: tuple[Properties, ...] = (
    {},
    {P.CONTENT_TYPE: "application/json", P.USER_PROPERTY: [("b", "1"), ("a", "2"), ("b", "1")]},
    {P.RESPONSE_TOPIC: "d2/subscribe", P.CORRELATION_DATA: b"\0\xff"},
    {P.PAYLOAD_FORMAT_INDICATOR: 1, P.CONTENT_TYPE: "", P.CORRELATION_DATA: b"", P.USER_PROPERTY: [("", "")]},
)


def unaltered(_client: str, packet: Packet) -> Packet | None:
    return packet


class Driver:
    def __init__(self, server: Server, alter: Alter = unaltered, patience: float = SECONDS) -> None:
        """`patience`: seconds for anything that the server has to do."""
        self._server, self._patience = server, patience
        several = server.processes > 1
        self._model = Model(server.one_delivery, server.wills_survive, server.tolerates, several)
        self._clients = {name: Client(name, alter) for name in (OBSERVER, *CLIENTS)}
        self._observer = self._clients[OBSERVER]
        self._poll = select.poll()
        self._by_fileno: dict[int, Connection] = {}
        self._own_messages = 0
        self._random = random.Random(server.processes)  # which process a client connects to

    def run(self, script: Iterable[Step]) -> None:
        """Raises Divergence; `step` then is the number of the step."""
        self.step = 0
        try:
            self._connect_observer()
            for self.step, step in enumerate(script):
                self._model.passed(time.monotonic())
                self._run(step)
                self._finish_step()
        finally:
            for connection in list(self._by_fileno.values()):
                connection.socket.close()

    # Steps

    def _run(self, step: Step) -> None:
        match step:
            case steps.Connect():
                self._connect(step)
            case steps.CutConnect(connect, at):
                self._cut_connect(connect, at)
            case steps.Kill(name, messages):
                self._kill(self._clients[name], messages)
            case steps.Wait():
                time.sleep(WAIT_SECONDS)  # what expires has no other sign
                self._model.passed(time.monotonic())
            case _:
                client = self._clients[step.client]
                if client.connection:
                    self._run_connected(step, client, client.connection)

    def _run_connected(self, step: Step, client: Client, connection: Connection) -> None:
        match step:
            case steps.Disconnect():
                self._disconnect(step, client, connection)
            case steps.CutPublish(_, message, at):
                self._cut_publish(client, connection, message, at)
            case steps.CutPacket(_, packet, at):
                data = self._packet(packet, client, connection)
                if data:
                    connection.write(data[: at % len(data)])
                    self._end(client, connection, publish_will=True)
            case steps.Subscribe():
                self._subscribe(step, client, connection)
            case steps.Unsubscribe(_, filters):
                self._unsubscribe(client, connection, [self._server.filter(one) for one in filters])
            case steps.Publish(_, messages):
                self._publish(client, connection, messages)
                self._until(
                    lambda: not client.outgoing or self._all_paused(client), "acknowledgements", client
                )
            case steps.Begin(_, message):
                if len(client.outgoing) < 5:
                    self._publish(client, connection, (message,), paused=True)
                    self._until(lambda: self._all_paused(client), "PUBREC", client)
            case steps.Finish():
                for number, outgoing in client.outgoing.items():
                    outgoing.paused = False
                    connection.write(encode_ack(PUBREL, number))
                self._until(lambda: not client.outgoing, "PUBCOMP", client)
            case steps.Hold(_, completions_only):
                connection.holding = Holding.COMPLETIONS if completions_only else Holding.ALL
                self._model.sessions[client.name].held = True
            case steps.Release():
                connection.holding = Holding.NOTHING
                self._model.sessions[client.name].held = False
                connection.answer_held()
            case steps.Connect() | steps.CutConnect() | steps.Kill() | steps.Wait():
                raise AssertionError
            case _:
                assert_never(step)

    def _all_paused(self, client: Client) -> bool:
        return all(one.paused and one.received for one in client.outgoing.values())

    def _connect_observer(self) -> None:
        filter_ = steps.Filter("#", 2, False, True, 2)
        self._connect(steps.Connect(OBSERVER, V5, False, NEVER, 0, 0, None))
        connection = self._observer.connection
        assert connection
        self._subscribe(steps.Subscribe(OBSERVER, (filter_,), 0), self._observer, connection)
        self._finish_step()

    def _open(
        self, step: steps.Connect, version: Version
    ) -> tuple[Connection, packets.Connect, Message | None]:
        client = self._clients[step.client]
        process = self._random.randrange(self._server.processes)
        connection = Connection(client, self._server.address(process), version, process)
        properties: Properties = {}
        if version == V5:
            properties[P.SESSION_EXPIRY_INTERVAL] = step.expiry
            if step.receive_maximum:
                properties[P.RECEIVE_MAXIMUM] = step.receive_maximum
            if step.alias_maximum:
                properties[P.TOPIC_ALIAS_MAXIMUM] = step.alias_maximum
        message = will = None
        if step.will:
            message, publish = self._message(step.will.message, step.client, version)
            will_properties = dict(publish.properties)
            if delay := self._will_delay(step, version):
                will_properties[P.WILL_DELAY_INTERVAL] = delay
            will = packets.Will(message.topic, message.payload, message.qos, message.retain, will_properties)
        user, password = self._server.credentials
        packet = packets.Connect(
            version, self._server.client_id(step.client), step.clean, 600, user, password, will, properties
        )
        return connection, packet, message

    def _will_delay(self, step: steps.Connect, version: Version) -> int:
        if step.will is None or version != V5:
            return 0
        return step.will.delay if self._server.wills_end_with_session else min(step.will.delay, step.expiry)

    def _connect(self, step: steps.Connect) -> None:
        client, version = self._clients[step.client], Version(step.version)
        presence = self._model.presence(step.client, step.clean, time.monotonic())
        if presence is Presence.EITHER and version == V31:  # its CONNACK does not say which
            version = V311
        if client.outgoing and not step.clean:  # another version would send the messages again otherwise
            version = client.version
        client.version = version
        connection, packet, will = self._open(step, version)
        old = client.connection
        if old:
            self._model.closed(step.client, time.monotonic(), publish_will=True, taken_over=True)
        if step.clean:
            self._model.starts_afresh(step.client, time.monotonic())
        connection.send(packet)
        self._register(connection)
        self._until(lambda: connection.connack, "CONNACK", client, connection)
        if old:
            self._lose(client, old)
        assert connection.connack
        if connection.connack.code:
            raise Divergence("refused", f"{packet}: {connection.connack}")
        present = connection.connack.session_present
        if version == V31:
            present = presence is Presence.PRESENT
        if present is not (presence is Presence.PRESENT) and presence is not Presence.EITHER:
            raise Divergence("session present", f"{step}: {present}, wanted {presence.name}")
        forever = 0 if step.clean else NEVER
        session = Session(
            step.client,
            version,
            step.clean,
            step.expiry if version == V5 else forever,
            step.receive_maximum if version == V5 else 0,
            will=will,
            will_delay=self._will_delay(step, version),
        )
        self._model.connected(session, present)
        client.connection = connection
        if present:
            self._send_again(client, connection)
        else:
            self._forget_outgoing(client)

    def _send_again(self, client: Client, connection: Connection) -> None:
        """Section 4.4."""
        again: list[Message] = []  # that may be routed once more
        for number, outgoing in client.outgoing.items():
            outgoing.paused = False
            if outgoing.received:
                connection.write(encode_ack(PUBREL, number))
                continue
            if outgoing.message.qos == 1:
                outgoing.message.unfinished = False
                if outgoing.message not in self._model.pending:
                    again.append(outgoing.message)
            outgoing.message.place = self._model.next_place()
            connection.send(outgoing.packet._replace(dup=True))
        self._model.pending += again
        self._until(lambda: not client.outgoing, "acknowledgements of what was sent again", client)
        if again:  # else a copy of the first time would wait for the observer to get the second one
            self._acknowledge(client)
            self._wait_until_routed()
            self._model.drop_unrouted()

    def _forget_outgoing(self, client: Client) -> None:
        for outgoing in client.outgoing.values():
            outgoing.message.unfinished = False
        client.outgoing.clear()

    def _cut_connect(self, step: steps.Connect, at: int) -> None:
        connection, packet, _will = self._open(step, Version(step.version))
        data = encode(packet, packet.version)
        connection.write(data[: at % len(data)])
        connection.end()
        self._register(connection)
        self._until(lambda: not connection.open, "the end of a connection without CONNECT", None, connection)
        self._check_open()

    def _disconnect(self, step: steps.Disconnect, client: Client, connection: Connection) -> None:
        session = self._model.sessions[client.name]
        properties: Properties = {}
        code = 0
        if connection.version == V5:
            code = 4 if step.publish_will else 0
            shorter = step.expiry is not None and step.expiry < session.will_delay
            if shorter and session.will and not self._server.wills_end_with_session:
                code = 0
            if step.expiry is not None and session.expiry:
                properties[P.SESSION_EXPIRY_INTERVAL] = step.expiry
                session.expiry = step.expiry
        connection.send(packets.Disconnect(code, properties))
        self._end(client, connection, publish_will=code == 4)

    def _cut_publish(self, client: Client, connection: Connection, step: steps.Message, at: int) -> None:
        message, publish = self._message(step, client.name, connection.version)
        if message.qos:
            publish = publish._replace(packet_id=client.packet_id())
        data = encode(publish, connection.version)
        at %= len(data) + 1
        if at == len(data):  # may be taken or not
            message.unfinished = message.qos == 2
            self._model.pending.append(message)
        if message.qos:
            client.outgoing[publish.packet_id] = Outgoing(message, publish)
        connection.write(data[:at])
        self._end(client, connection, publish_will=True)
        if at < len(data) and message.qos == 2 and publish.packet_id in client.outgoing:
            message.unfinished = True  # is taken when it is sent again
            self._model.pending.append(message)

    def _packet(self, kind: str, client: Client, connection: Connection) -> bytes | None:
        if kind == "answer":
            return connection.first_answer()
        filter_ = self._server.filter("#")
        packet: Packet = packets.Disconnect(0, {})
        if kind == "subscribe":
            options = packets.Subscription(filter_, 1, False, False, 0)
            packet = packets.Subscribe(client.packet_id(), [options], {})
        elif kind == "unsubscribe":
            packet = packets.Unsubscribe(client.packet_id(), [filter_], {})
        elif kind == "ping":
            packet = packets.PingReq()
        return encode(packet, connection.version)

    def _subscribe(self, step: steps.Subscribe, client: Client, connection: Connection) -> None:
        five = connection.version == V5
        identifier = step.identifier if five else 0
        options = [
            packets.Subscription(
                self._server.filter(filter_), qos, no_local and five, published and five, handling * five
            )
            for filter_, qos, no_local, published, handling in step.filters
        ]
        number = client.packet_id()
        properties: Properties = {P.SUBSCRIPTION_IDENTIFIER: [identifier]} if identifier else {}
        connection.send(packets.Subscribe(number, options, properties))
        now = time.monotonic()
        for one in options:
            self._model.subscribed(client.name, Subscription(*one, identifier), now)
        self._until(lambda: number in connection.subacks, "SUBACK", client)
        codes = connection.subacks.pop(number)
        if codes != [one.qos for one in options]:
            raise Divergence("SUBACK", f"{step}: {codes}")

    def _unsubscribe(self, client: Client, connection: Connection, filters: list[str]) -> None:
        number = client.packet_id()
        connection.send(packets.Unsubscribe(number, filters, {}))
        known = [self._model.unsubscribed(client.name, one) for one in filters]
        self._until(lambda: number in connection.subacks, "UNSUBACK", client)
        codes = connection.subacks.pop(number)
        if connection.version == V5 and codes != [0 if one else 0x11 for one in known]:
            raise Divergence("UNSUBACK", f"{client.name} {filters}: {codes}")

    def _publish(
        self,
        client: Client,
        connection: Connection,
        messages: Iterable[steps.Message],
        *,
        paused: bool = False,
    ) -> None:
        data = b""
        for step in messages:
            message, publish = self._message(step, client.name, connection.version)
            topic, alias = connection.alias_for(message.topic, step.alias)
            sent = publish
            if message.qos:
                sent = sent._replace(packet_id=client.packet_id())
                client.outgoing[sent.packet_id] = Outgoing(message, sent, paused=paused)
                message.unfinished = True
            else:
                message.required = True
            if alias:
                sent = sent._replace(topic=topic, properties=sent.properties | {P.TOPIC_ALIAS: alias})
            self._model.pending.append(message)
            data += encode(sent, connection.version)
        connection.write(data)

    def _message(self, step: steps.Message, publisher: str, version: Version) -> tuple[Message, Publish]:
        topic = self._server.topic(step.topic)
        payload = b'{"n": %d}' % step.number if step.number else b""
        properties: Properties = {}
        expiry = None
        if version == V5:
            properties = dict(STYLES[step.style])
            if P.RESPONSE_TOPIC in properties:
                properties[P.RESPONSE_TOPIC] = self._server.topic(properties[P.RESPONSE_TOPIC])
            expiry = step.expiry or None
        message = Message(
            topic,
            payload,
            step.qos,
            step.retain,
            properties,
            expiry,
            publisher,
            time.monotonic(),
            self._model.next_place(),
        )
        sent = properties | ({P.MESSAGE_EXPIRY_INTERVAL: expiry} if expiry else {})
        return message, Publish(topic, payload, step.qos, step.retain, False, 0, sent)

    def _kill(self, client: Client, messages: tuple[steps.Message, ...]) -> None:
        if messages and self._server.kill_within_messages and client.connection:
            self._publish(client, client.connection, messages)
        process = client.connection.process if client.connection else 0
        self._server.kill(process)
        model, now = self._model, time.monotonic()
        live = [one for one in self._clients.values() if one.connection and one.connection.process == process]
        connections = [one.connection for one in live if one.connection]
        self._until(
            lambda: not any(one.open for one in connections), "the end of all connections", None, *connections
        )
        for one in live:
            model.closed(one.name, now, publish_will=True, crash=True)
        model.crashed(now)
        self._drain()  # what the observer has got of it
        self._server.start()
        model.restarted(now, time.monotonic() + self._server.notices_after)
        if self._observer in live:
            model.lost(OBSERVER, crash=True)
            observer, self._observer.connection = self._observer.connection, None
            assert observer
            self._connect(steps.Connect(OBSERVER, V5, False, NEVER, 0, 0, None))
        self._wait_until_routed()
        known = [self._send_own(topic) for topic in sorted(model.observer_is_back(time.monotonic()))]
        self._until(lambda: all(one.routed_at for one in known), "own messages", None)
        for one in live:
            if one is not self._observer:
                self._leave(one, crash=True)

    # How a connection ends

    def _end(self, client: Client, connection: Connection, *, publish_will: bool) -> None:
        self._model.closed(client.name, time.monotonic(), publish_will=publish_will)
        connection.end()
        self._lose(client, connection)

    def _lose(self, client: Client, connection: Connection) -> None:
        """Reads all that the server has sent, and tells the model when it has looked at it."""
        self._until(lambda: not connection.open, "the end of the connection", None, connection)
        self._acknowledge(client)
        self._wait_until_routed()
        self._leave(client)

    def _leave(self, client: Client, *, crash: bool = False) -> None:
        connection = client.connection
        assert connection
        self._check_inbox(client.name, connection)
        self._model.lost(client.name, crash)
        client.connection = None
        if client.name not in self._model.sessions:
            self._forget_outgoing(client)

    def _wait_until_routed(self) -> None:
        """A message behind all that the server has been sent: when it is back, they have been routed."""
        self._server.settle()
        sentinel = self._send_own(self._server.topic(SENTINEL))
        self._until(lambda: sentinel.routed_at is not None, "the sentinel", None)

    def _send_own(self, topic: str) -> Message:
        """A message of the observer's, which is retained."""
        self._own_messages += 1
        payload = b'{"n": %d}' % -self._own_messages
        message = Message(
            topic, payload, 1, True, {}, None, OBSERVER, time.monotonic(), self._model.next_place()
        )
        number = self._observer.packet_id()
        publish = Publish(topic, payload, 1, True, False, number, {})
        self._observer.outgoing[number] = Outgoing(message, publish)
        self._model.pending.append(message)
        assert self._observer.connection
        self._observer.connection.send(publish)
        return message

    # Waiting

    def _finish_step(self) -> None:
        model = self._model
        self._until(lambda: not self._required(), "what is owed", None)
        self._server.settle()
        live = [one.connection for one in self._clients.values() if one.connection]
        for connection in live:
            connection.pings += 1
            connection.write(b"\xc0\0")
        self._until(lambda: not any(one.pings for one in live), "PINGRESP", None)
        for name, client in self._clients.items():
            if client.connection:
                self._check_inbox(name, client.connection)
        model.ended_step()

    def _required(self) -> list[str]:
        for client in self._clients.values():
            self._acknowledge(client)
        return self._model.outstanding()

    def _acknowledge(self, client: Client) -> None:
        for message in client.acknowledged:
            self._model.acknowledged_publish(message, time.monotonic())
        for message in client.refused:
            message.unfinished = False
            if not self._server.may_refuse(message.topic, message.payload):
                raise Divergence("refused", f"{client.name}: {message}")
        client.acknowledged.clear()
        client.refused.clear()

    def _check_inbox(self, name: str, connection: Connection) -> None:
        self._drain()
        if self._server.processes > 1:  # a will that another one publishes may be here before the observer's
            self._until(lambda: not connection.inbox, f"the observer to get what {name} has got", None)
        for event, packet in connection.inbox:
            if event is Event.DELIVERED:
                raise Divergence("unexpected", f"{name} was sent {packet}, which is not routed")

    def _until(
        self, done: Callable[[], object], what: str, client: Client | None, *ending: Connection
    ) -> None:
        """Reads until `done`. Only the connections of `ending` may end meanwhile."""
        deadline = time.monotonic() + self._patience
        while True:
            self._drain()
            if done():
                return
            left = deadline - time.monotonic()
            ready = self._poll.poll(left * 1000) if left > 0 else []
            if not ready:
                missing = "; ".join(self._required()) or (client.name if client else "")
                raise Divergence("missing", f"waited {self._patience} s for {what}: {missing}")
            for fileno, _ in ready:
                connection = self._by_fileno[fileno]
                connection.read()
                if not connection.open:
                    self._poll.unregister(fileno)
                    del self._by_fileno[fileno]
                    self._check_ended(connection, ending)

    def _check_ended(self, connection: Connection, ending: tuple[Connection, ...]) -> None:
        known = self._clients[connection.client.name].connection
        if connection is known and connection not in ending and not self._taken_over(connection, ending):
            raise Divergence("closed", f"{connection.client.name}: {connection.disconnect}")
        if connection is not known and not connection.connack and connection.writable:
            raise Divergence("closed", f"{connection.client.name} in its CONNECT")

    def _taken_over(self, connection: Connection, ending: tuple[Connection, ...]) -> bool:
        return any(one.client is connection.client for one in ending)

    def _check_open(self) -> None:
        for client in self._clients.values():
            if client.connection and not client.connection.open:
                raise Divergence("closed", f"{client.name} by the CONNECT of another connection that was cut")

    def _register(self, connection: Connection) -> None:
        self._by_fileno[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.POLLIN)

    def _drain(self) -> None:
        """The model looks at what has come, the observer's first: it says what has been routed."""
        for name, client in self._clients.items():
            if client.connection and client.connection.inbox:
                self._drain_inbox(name, client.connection)

    def _drain_inbox(self, name: str, connection: Connection) -> None:
        inbox, model = connection.inbox, self._model
        while inbox:
            event, value = inbox[0]
            if isinstance(value, Publish):
                if name != OBSERVER and model.waits_for_observer(value) and not model.fits(name, value):
                    return
                inbox.popleft()
                if not self._server.is_noise(value.topic):
                    model.delivered(name, value, time.monotonic())
                continue
            inbox.popleft()
            if event is Event.RECEIVED:
                model.received(name, value)
            elif event is Event.RELEASED:
                model.released(name, value)
            else:
                model.acknowledged(name, value)
