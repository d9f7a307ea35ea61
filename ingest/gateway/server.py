"""The MQTT gateway: its ports, the clients, and what the clients share."""

import asyncio
import contextlib
import json
import logging
import math
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import Error, close_old_connections

from ingest.admission import ASKED_SECONDS, RETRY_SECONDS, Admission, DatabaseAway
from ingest.device_tokens import DeviceTokens, TokenOwner, key_of_user
from ingest.gateway import topic_owner
from ingest.gateway.client import Client, State
from ingest.gateway.confirmed_clients import ConfirmedClients
from ingest.gateway.connection import Connection, WebSocketConnection
from ingest.gateway.connection_limits import ConnectionLimits, RefusalReason
from ingest.gateway.durable_sessions import Announcement, DurableSessions, set_subscriptions
from ingest.gateway.hub import NOWHERE, AccountHub, Hub, Sending, Subscriber
from ingest.gateway.intake_notes import IntakeNotes
from ingest.gateway.outgoing_message import OutgoingMessage
from ingest.gateway.peers import Peers
from ingest.gateway.presence import Known, PresenceWriter
from ingest.gateway.publishes import MAX_SOURCE, ClientSubmission, Forwarded, Publishes
from ingest.gateway.system import AppPublishes, SystemClient
from ingest.gateway.waiting_wills import WaitingWills
from ingest.message import Kind, Outcome, RawMessage, Reason
from ingest.mqtt.packets import Connect, ReasonCode, Will
from ingest.mqtt.properties import Property
from ingest.point_rate import PointRate
from ingest.record_limiter import RecordLimiter
from ingest.service import connect
from ingest.store_client import RemoteIngest
from ingest.stored_packet import stored_will
from ingest.writer import QueueLimits
from thingscale.accounts.models import User
from thingscale.background.watched import keep_going, log_failure
from thingscale.devices import presence
from thingscale.devices.models import Command
from thingscale.devices.mqtt_store import sessions
from thingscale.devices.mqtt_store.sessions import Disconnected, Open, Opened
from thingscale.devices.presence import ClientKey, Figures, Presence, TakeOver, Use
from thingscale.lib import names
from thingscale.lib.clock import now_us
from thingscale.lib.gc_tuning import drop_tracebacks
from thingscale.processes.change_notifications import (
    FENCED,
    HEARD,
    INTAKES,
    LEFT,
    SESSIONS,
    TAKE_OVER,
    Change,
    announce,
)
from thingscale.web import tcp
from thingscale.web.proxy_listener import ProxyListener
from thingscale.web.tls import Certificate

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
LOOKUP_SECONDS = 10.0
LAST_SECONDS = 0.1
ANNOUNCE_STOP_SECONDS = 1.0  # for the database to say whether another gateway stays
HANDOVER_STEP_SECONDS = 0.05
HANDOVER_STEP_CLIENTS = 10  # at least: fewer than 200 a second overwhelm nobody
MAX_FAILED = 10_000  # messages that wait until storing them is tried again
FAILED_SECONDS = 1.0
TAKE_OVER_SECONDS = 10.0  # that another gateway has to let go of a client, however often the client connects
ASKING_SECONDS = 2.0  # that it has in any case
REMEMBER_SECONDS = 60.0  # for which we remember since when a client waits
PEER_SECONDS = 0.05  # until we look again whether it has let go
PUBLISHED_SECONDS = 120.0  # for which we remember which messages of apps are not new


T = TypeVar("T")


class Gateway:
    def __init__(self, store: socket.socket, gateway: UUID) -> None:
        """`store` is the connection to the store's process, `gateway` the id of both in the database."""
        self.gateway = gateway
        self._key = presence.key_of(gateway)
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        self.ingest = RemoteIngest(store, self._on_change, self._note_listening)
        self.device_tokens: DeviceTokens = self.ingest.device_tokens
        self.intakes = IntakeNotes()
        self.intake_rate = PointRate(settings.INTAKE_RATE)
        self.intakes_too_fast = RecordLimiter(30, 60.0)  # messages that are listed
        self.allow_anonymous: bool = settings.ALLOW_ANONYMOUS
        limits = QueueLimits(settings.QUEUE_MESSAGES, settings.QUEUE_BYTES)
        self.admission = Admission(self.ingest.writer, limits, self._resume_reading)
        self.hub = Hub(self.note_command, self.loop)
        self.peers = Peers(self._key, self.hub, self.ingest.writer.metrics)
        self._system = SystemClient(self, publishes=AppPublishes)
        self.durable_sessions = DurableSessions(self, self._key)
        self._missing: set[int] = set()  # connected sessions that another gateway seems to have
        self._presence = PresenceWriter(
            connect,
            gateway,
            Known(lambda: list(self._by_client), self._find_presence, self._find_uses, self._find_figures),
            lambda *seen: self._call_soon(self._on_other_gateways, *seen),
        )
        self._clients: set[Client] = set()
        self._by_client: dict[ClientKey, Client] = {}
        self._unchecked: set[Client] = set()  # their tokens may have been revoked
        self._checking: asyncio.Task[None] | None = None
        self.confirmed_clients = ConfirmedClients()
        self.waiting_wills = WaitingWills(self)
        self._unanswered: dict[ClientKey, Publishes] = {}  # of durable sessions that have disconnected
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rounds: list[asyncio.Task[None]] = []
        self._lookups = ThreadPoolExecutor(4, thread_name_prefix="lookups")
        self._servers: list[asyncio.Server | ProxyListener] = []
        self._published: dict[int, float] = {}  # messages of apps that we have seen, and when
        self._taking_over_since: dict[ClientKey, float] = {}  # clients that another gateway has not let go of
        self._sessions_loaded = False
        self._published_due = False
        self._publishing: asyncio.Task[None] | None = None
        self._failed = 0
        self._sign_ins = RecordLimiter(10, 3600.0)  # the list keeps a thousand
        self.connection_limits = ConnectionLimits(self.ingest.writer.metrics.refused)
        self.dropped = 0  # deliveries at QoS 0, to clients that take too little
        self.leaving = False  # no more clients may connect
        self.draining = False  # and nothing more is read from clients

    # Life

    async def start(self) -> None:
        await self.ingest.start()
        self.intakes.log.start()
        await self.durable_sessions.load()  # before others can tell that this gateway lives
        self._sessions_loaded = True
        self._read_published_soon()
        self._presence.start()
        while not await asyncio.to_thread(self._presence.entered.wait, LOOKUP_SECONDS):
            log.warning("Other gateways can't be told yet that this one lives: the database is away")
        await self.durable_sessions.join_others()
        self.spawn(keep_going("peers", self.peers.run))
        await self.peers.wait_for_peers(self.durable_sessions.others)
        await self.waiting_wills.publish_when_possible()
        rounds = {"sweep": self._sweep, "relief": self._relieve_accounts, "sessions": self._expire_sessions}
        self._rounds = [self.spawn(keep_going(name, work)) for name, work in rounds.items()]
        await self._serve(settings.MQTT_PORT, Connection, None)
        await self._serve(settings.MQTT_WS_PORT, WebSocketConnection, None)
        if settings.TLS_CERT:
            certificate = Certificate(settings.TLS_CERT, settings.TLS_KEY)
            self._rounds.append(self.spawn(keep_going("certificate", certificate.follow)))
            await self._serve(settings.MQTT_TLS_PORT, Connection, certificate.context)
            await self._serve(settings.MQTT_WSS_PORT, WebSocketConnection, certificate.context)

    async def stop(self) -> None:
        """Takes no more clients, hands over those that it has to other gateways, stores and answers what they
        have sent, and closes."""
        self.leaving = True
        for server in self._servers:
            server.close()
        await self._hand_over_clients()
        self.draining = True
        for client in list(self._clients):
            client.pause_reading(True)
        deadline = self.now() + settings.DRAIN_SECONDS
        # Until what the clients sent is stored and answered, or time is up. The writer's thread sets no
        # event.
        while (self.admission.pending or self.hub.scheduler.busy) and self.now() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(RETRY_SECONDS)
        await asyncio.sleep(0)  # the last answers are written
        for client in list(self._clients):
            self._send_away(client)
        self.admission.flush()
        drained = await self.ingest.stop(max(deadline - self.now(), 1.0))
        await asyncio.to_thread(self.intakes.log.stop)
        for task in self._rounds:
            task.cancel()
        await asyncio.sleep(LAST_SECONDS)  # the last messages to subscribers are on their way
        await self.peers.sign_off()
        if drained:
            await self.durable_sessions.announce_stop()
        await asyncio.to_thread(self._presence.stop)
        for task in self._tasks:
            task.cancel()
        self._lookups.shutdown(wait=False, cancel_futures=True)
        log.info("Stopped; %s", "all that was accepted is stored" if drained else "the store was away")

    async def _hand_over_clients(self) -> None:
        """To the other gateways, in small steps, so that they do not all come there at once. Each client is
        served until its turn comes, and disconnected once what it has sent is answered. If no other gateway
        stays, all are served on."""
        await asyncio.to_thread(self._presence.announce_stop, ANNOUNCE_STOP_SECONDS)
        waiting, going = list(self._clients), list[Client]()
        deadline = self.now() + settings.HANDOVER_SECONDS
        while (waiting or going) and self._presence.successors and self.now() < deadline:
            steps = max((deadline - self.now()) / HANDOVER_STEP_SECONDS - 1, 1)
            count = max(math.ceil(len(waiting) / steps), HANDOVER_STEP_CLIENTS)
            for client in waiting[-count:]:
                client.hand_over()
            going += waiting[-count:]
            del waiting[-count:]
            for client in going:
                if client.answered:
                    self._send_away(client)
            going = [client for client in going if not client.ended]
            await asyncio.sleep(HANDOVER_STEP_SECONDS)

    def _send_away(self, client: Client) -> None:
        """Disconnects it; its will is due."""
        reference = settings.SERVER_REFERENCE if self._presence.successors else ""
        reason = ReasonCode.USE_ANOTHER_SERVER if reference else ReasonCode.SERVER_SHUTTING_DOWN
        client.fail(reason, "the gateway stops", reference)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)
        return task

    async def _serve(self, port: int, kind: type[Connection], context: ssl.SSLContext | None) -> None:
        if not port:
            return
        new_client = self._new_client  # one for all
        if settings.PROXY_NETWORKS or context:  # a handshake is counted, too
            listener = ProxyListener(
                lambda header: kind(new_client, header.client[0] if header and header.client else ""),
                context,
                self.connection_limits,
                ssl_handshake_timeout=settings.CONNECT_SECONDS,
            )
            await listener.start(settings.BIND, port, reuse_port=settings.SHARE_PORTS)
            self._servers.append(listener)
        else:
            server = await self.loop.create_server(
                lambda: kind(new_client),
                settings.BIND,
                port,
                backlog=4096,
                reuse_port=settings.SHARE_PORTS or None,
                start_serving=False,
            )
            tcp.keep_accepted_alive(server)
            await server.start_serving()
            self._servers.append(server)
        log.info("Listening on %s:%d (%s%s)", settings.BIND, port, kind.__name__, ", TLS" if context else "")

    def _new_client(self, connection: Connection) -> Client | None:
        full = len(self._clients) >= settings.MAX_CONNECTIONS
        if full:
            self.connection_limits.refuse(RefusalReason.MAX_CONNECTIONS, connection.peer)
        if full or self.leaving or not self.connection_limits.enter(connection, connection.peer):
            self.connection_limits.leave(connection)
            return None
        client = Client(self, connection)
        self._clients.add(client)
        return client

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self.now()
            self._unanswered = {key: each for key, each in self._unanswered.items() if each.unacked}
            since = now - REMEMBER_SECONDS
            self._taking_over_since = {
                key: each for key, each in self._taking_over_since.items() if each > since
            }
            for client in list(self._clients):
                try:
                    client.check(now)
                except Exception:
                    log.exception("A connection failed")  # and only that one
                    client.end(with_will=True)

    async def _relieve_accounts(self) -> None:
        """Where the clients of an account do not take what they are sent, cuts off those that have the most
        of it. The others are then sent what had to wait."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for account in [each for each in self.hub.accounts.values() if each.subscriptions]:
                totals = account.totals
                clients = [each.client for each in account.subscribers.values() if each.client]
                for client in clients:
                    client.measure()
                was_full = totals.full
                if was_full:
                    for client in sorted(clients, key=lambda each: each.untaken_bytes, reverse=True):
                        if totals.untaken_bytes <= totals.max_waiting_bytes // 2 or not client.untaken_bytes:
                            break
                        log.info("A client of %s was cut off: it reads too slowly", account.user_id)
                        client.connection.abort()
                        client.end(with_will=True)
                if (was_full or totals.delayed) and not totals.full:
                    totals.delayed = False
                    for client in clients:
                        client.send_waiting()

    # Clients coming and going

    async def find_token_owner(self, token: str) -> TokenOwner | None:
        """Raises OSError or TimeoutError while the database is away."""
        cached = self.device_tokens.cached(token)
        if cached:
            return cached if isinstance(cached, TokenOwner) else None
        try:
            token_owner: TokenOwner | None = await self.in_thread(self.device_tokens.find, token)
        except Error as error:
            drop_tracebacks(error)
            raise OSError(str(error)) from None
        return token_owner

    def record_refused_sign_in(self, packet: Connect, owner: TokenOwner | None) -> None:
        """In the list of its account: whose token it was, or else whose user name."""
        name = owner.user_id if owner else packet.username or ""
        if self._sign_ins.should_record(name[:20], packet.client_id[:64], self.now()):
            self.spawn(self._record_refused_sign_in(packet, owner))

    async def _record_refused_sign_in(self, packet: Connect, owner: TokenOwner | None) -> None:
        with contextlib.suppress(Error, TimeoutError):
            user = owner.user if owner else await self.in_thread(key_of_user, packet.username or "")
            if user and not self.admission.holds(user):
                client = f"CONNECT as user {packet.username}, client {packet.client_id or '-'}"
                source = "".join(c if c.isprintable() else "?" for c in client)[:MAX_SOURCE]
                refused = Reason.SIGN_IN_REFUSED
                message = RawMessage(user, "", None, Kind.JSON, b"", now_us(), refused=refused, source=source)
                self.ingest.writer.accept([message], lambda outcomes: None)

    async def register(self, client: Client, packet: Connect) -> Opened:
        """Takes over an older connection of the same client, and its durable session. Raises DatabaseAway."""
        key = client.key
        older = self._by_client.get(key)
        if client.token_owner:
            account = self.hub.account(client.token_owner.user, client.token_owner.user_id)
            if account.connections >= client.token_owner.max_connections and not older:
                return Opened(0, False, 0, refused=True)
            client.account = account
            self.hub.connected(account)
        self._by_client[key] = client
        if older:
            older.fail(ReasonCode.SESSION_TAKEN_OVER, "the client connected again")
        opened = Opened(0, False, 0)
        if client.token_owner is None:
            return opened
        if before := self._unanswered.get(key):
            # What the connection before has sent, and the full queue has kept from storage, has to be
            # remembered in the session first: the client may send it again.
            deadline = self.now() + ASKED_SECONDS
            while before.unacked:
                if self.now() >= deadline:
                    raise DatabaseAway
                await asyncio.sleep(RETRY_SECONDS)
            if client.ended:  # meanwhile
                return opened
        known = account.subscribers.get(client.client_id)
        if client.durable or packet.will or (known and known.session) or self.durable_sessions.others:
            will, delay = None, 0
            # One whose topic is not the account's is refused when it is published.
            if packet.will and (found := topic_owner.find(client, packet.will.topic)):
                will, delay = stored_will(packet.will, found[1], client.owner)
            stored = client.durable or will is not None
            question = Open(
                account.user, client.client_id, packet.clean_start, stored, client.expiry, will, delay
            )
            opened = await self._open_session(client, question)
            if client.ended:  # meanwhile
                return opened
        if opened.refused:
            return opened
        known = account.subscribers.get(client.client_id)
        if opened.ended:
            self.durable_sessions.announce_ended([(account.user, opened.ended)])
        if known and not (opened.present and known.session == opened.session):
            account.remove(known)
            known = None
        durable = client.durable or opened.present  # though perhaps not after this connection
        subscriber = known or Subscriber(client.client_id, opened.session if durable else 0)
        if known is None:
            account.subscribers[client.client_id] = subscriber
        if known is None or opened.moved:  # the same object: messages may be on their way to it
            set_subscriptions(account, subscriber, opened.subscriptions)
        self.durable_sessions.connected_here(subscriber.session)
        account.connected(subscriber, client)
        subscriber.will_waits = False
        client.subscriber = subscriber
        return opened

    async def _open_session(self, client: Client, question: Open) -> Opened:
        """Opens the session once the gateway that the client was connected to has let go of it. A gateway
        that does not is fenced after a while. Raises DatabaseAway."""
        began = self.now()
        while True:
            question = question._replace(unsure=self._presence.unsure)
            opened = await self.admission.open(question, self._close_unwanted)
            if opened.due_will:
                await self.waiting_wills.publish(opened.due_will)
                question = question._replace(will_published=True)
            elif not opened.held_by_other_gateway:
                self._taking_over_since.pop(client.key, None)
                return opened
            elif (
                self.now() - self._taking_over_since.setdefault(client.key, self.now()) >= TAKE_OVER_SECONDS
                and self.now() - began >= ASKING_SECONDS  # it was asked now, too
            ):
                log.warning("Another gateway has not let go of a client in time, and is taken for dead")
                question = question._replace(force=True)
            else:
                told = TakeOver(self._key, self._connected_at(client), client.client_id)
                await self._announce(question.account, told)
                await asyncio.sleep(PEER_SECONDS)

    def _close_unwanted(self, question: Open, opened: Opened) -> None:
        """Closes a session whose client went before it was opened. If the client has connected again, that
        connection has a session of its own."""
        current = self._by_client.get((question.account, question.client_id))
        if current is None or (current.state is State.OPEN and current.row != opened.session):
            self.admission.note_disconnected(Disconnected(opened.session, question.expiry, None))

    def connected(self, client: Client) -> None:
        """After CONNACK."""
        self.connection_limits.leave(client.connection)
        if client.token_owner:
            self._presence.note(client.key)

    def _find_presence(self, key: ClientKey) -> Presence | None:
        """In the thread of the PresenceWriter."""
        client = self._by_client.get(key)
        return client.presence if client and client.state is State.OPEN and client.token_owner else None

    def _find_uses(self) -> dict[int, Use]:
        """In the thread of the PresenceWriter. By account."""
        uses = {account.user: account.use for account in list(self.hub.accounts.values())}
        return {user: use for user, use in uses.items() if any(use)}

    def _find_figures(self) -> Figures:
        """In the thread of the PresenceWriter."""
        counted = self.ingest.writer.metrics
        return Figures(
            counted.messages,
            0,
            self.admission.queued,
            counted.dropped + self.dropped,
            sum(counted.refused.values()),
        )

    def disconnected(self, client: Client, will: Will | None) -> None:
        """`will` is None unless it is to be published."""
        self._clients.discard(client)
        key = client.key
        current = self._by_client.get(key) is client
        if current:
            del self._by_client[key]
            self._presence.note(key)
        account, subscriber = client.account, client.subscriber
        if account:
            self.hub.disconnected(account)
        if client.deliveries:
            client.deliveries.close()
        if account and subscriber and subscriber.client is client:
            account.disconnected(subscriber)
            if not subscriber.session or not client.expiry:
                account.remove(subscriber)
        # Seconds that the will waits in the database, for the client to come back. It does not wait if a
        # clean start ends the session now, nor if its topic is somebody else's, so that it is refused.
        delay = 0
        successor = self._by_client.get(key)
        ends_now = successor and successor.clean_start
        if will and client.row and not ends_now and topic_owner.find(client, will.topic):
            delay = min(will.properties.get(Property.WILL_DELAY_INTERVAL, 0), client.expiry)
        if client.session and client.publishes and client.publishes.unacked:
            self._unanswered[key] = client.publishes
        if client.row:
            will_in = (delay or sessions.CLAIM_SECONDS) if will else None
            sent = client.queue.sent_seq if client.queue else None
            disconnected = Disconnected(client.row, client.expiry if client.session else 0, will_in, sent)
            self.admission.note_disconnected(disconnected)
            if account and client.session and not client.expiry:  # though its will may keep the row
                self.durable_sessions.announce_ended([(account.user, client.row)])
        if will and not delay:
            (client.publishes or client.start_publishing()).publish_will(will, client.row)
        elif will and subscriber:
            subscriber.will_waits = True
            self.waiting_wills.publish_in(delay)

    # Durable sessions

    async def _expire_sessions(self) -> None:
        while True:
            await asyncio.sleep(settings.DURABLE_END_SECONDS)
            try:
                await self.waiting_wills.publish()  # also those of other gateways, which may be gone
                ended = await self.admission.expire_sessions()
            except DatabaseAway:
                log.warning("Sessions that are over stay: the database is away")
                continue
            self.durable_sessions.remove([(account, session) for session, account in ended])

    # Messages

    def gauges(self) -> dict[str, int]:
        return {
            "connections": len(self._clients),
            "durable_sessions": sum(
                1
                for account in self.hub.accounts.values()
                for each in account.subscribers.values()
                if each.session
            ),
            "queue_messages": self.admission.queued,
            "queue_bytes": self.admission.queued_bytes,
            "waiting_chunks": self.admission.waiting,
            "waiting_wills": sum(
                each.will_waits
                for account in self.hub.accounts.values()
                for each in account.subscribers.values()
            ),
            "failed_messages": self._failed,
            "peers": len(self.peers.known),
        }

    def report(self, account: AccountHub, device_id: str, outcome: Outcome) -> None:
        """Publishes on `TOKEN/DEVICE_ID/errors` why a message was rejected."""
        if not account.listeners:
            return
        code = outcome.reason.value if outcome.reason else "REJECTED"
        body = {"error": code} | ({"detail": outcome.detail} if outcome.detail else {})
        topic, payload = f"{device_id}/{names.ERRORS}", json.dumps(body).encode()
        if account.peer_subscriptions is not None:
            self.peers.forward(account, Forwarded(topic, payload, 0, False, {}, 0))
        message = OutgoingMessage(topic, payload, {})
        account.deliver(message, Sending(0, False, NOWHERE, (), None))

    def note_command(self, command: int, acknowledged: bool) -> None:
        self.admission.command_result(command, Command.ACKNOWLEDGED if acknowledged else Command.DELIVERED)

    def _resume_reading(self) -> None:
        for client in list(self._clients):
            if client.publishes:
                client.publishes.resume_reading()

    def offer_again(self, submission: ClientSubmission) -> None:
        """What the store failed to store. Beyond MAX_FAILED messages, clients have to send again what is not
        acknowledged."""
        count = len(submission.messages)
        if self._failed + count > MAX_FAILED or self.draining:
            self.ingest.writer.metrics.dropped += count
            submission.publishes.unacked -= count
            return
        self._failed += count

        def offer() -> None:
            self._failed -= count
            self.admission.submit(submission, wait=True)

        self.loop.call_later(FAILED_SECONDS, offer)

    def _read_published_soon(self) -> None:
        """One task reads what apps publish. It starts again if there was more meanwhile."""
        if self.draining or not self._sessions_loaded:
            return  # another gateway takes it, or the next one; or this one, once it has loaded the sessions
        self._published_due = True
        if self._publishing is None or self._publishing.done():
            self._publishing = self.spawn(self._publish_for_apps())

    async def _publish_for_apps(self) -> None:
        while self._published_due:
            self._published_due = False
            try:
                messages = await self.admission.read_published(self._published)
            except DatabaseAway:
                await asyncio.sleep(SWEEP_SECONDS)
                self._published_due = True
                continue
            now = self.now()
            self._published = {key: at for key, at in self._published.items() if at > now - PUBLISHED_SECONDS}
            for message in messages:
                self._published[message.key] = now
                user_id = User(pk=message.account).user_id
                self._system.publish_for_app(self.hub.account(message.account, user_id), message)

    # Changes in the database

    def _call_soon(self, work: Callable[..., Any], *arguments: Any) -> None:
        """From another thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(work, *arguments)

    def _note_listening(self, at: float) -> None:
        """In the listener's thread."""
        self._call_soon(self.durable_sessions.note_listening, at)

    def _on_change(self, change: Change | None) -> None:
        """In the listener's thread."""
        if change and change[:2] == (FENCED, self._key):
            log.critical("Other gateways have taken this one for dead, so it ends: clients will send again")
            os._exit(1)
        with contextlib.suppress(RuntimeError):
            if change is None or change[0] in {"tokens", INTAKES}:
                self.loop.call_soon_threadsafe(self._check_tokens, change[1] if change else None)
            if change and change[0] == TAKE_OVER:
                told = TakeOver.of(change[2])
                self.loop.call_soon_threadsafe(self._on_take_over, change[1], told)
            if change is None or change[0] == "published":
                self.loop.call_soon_threadsafe(self._read_published_soon)
            if change is None:
                self.loop.call_soon_threadsafe(self.durable_sessions.on_missed_announcements)
            elif change[0] == SESSIONS:
                self.loop.call_soon_threadsafe(
                    self.durable_sessions.on_announcement, Announcement.of(*change[1:])
                )
            elif change[0] == LEFT:
                self._presence.note_left(change[1])
                self.loop.call_soon_threadsafe(self.durable_sessions.forget, [change[1]])
            elif change[0] == HEARD and change[1] == self._key:
                number, gateway = map(int, change[2].split())
                self.loop.call_soon_threadsafe(self.durable_sessions.on_confirmation, gateway, number)

    def _on_take_over(self, user: int, told: TakeOver) -> None:
        """A client has connected to another gateway. If it was connected to this one before, that connection
        ends; if it came here later, the other gateway has to know."""
        client = self._by_client.get((user, told.client_id))
        if not client or told.gateway == self._key:
            return
        connected_at = self._connected_at(client)
        if connected_at <= told.at:
            client.fail(ReasonCode.SESSION_TAKEN_OVER, "the client connected to another gateway")
        else:
            self.spawn(self._announce(user, TakeOver(self._key, connected_at, told.client_id)))

    async def _announce(self, user: int, take_over: TakeOver) -> None:
        """While the database is away, no other gateway can get a client either."""
        with contextlib.suppress(Error, TimeoutError):
            await self.in_thread(announce, TAKE_OVER, user, take_over.text)

    def _connected_at(self, client: Client) -> float:
        """By the database's clock, rounded to microseconds as in the client's row."""
        return round(client.began_at + presence.clock_offset(), 6)

    def _on_other_gateways(
        self, newest: dict[int, int] | None, ended: list[tuple[int, int]] | None, dead: set[int]
    ) -> None:
        """What other gateways have done. `ended` are sessions that did not outlive a gateway that has died.
        `newest` has the newest numbers in the queues of sessions that are connected here, since other
        gateways put messages into them. If a session is missing there twice in a row, another gateway has
        taken it over while this one could not hear of it."""
        self.durable_sessions.forget_fenced(dead)
        if ended is not None:
            self.waiting_wills.publish_in(0)
            self.durable_sessions.remove([(account, session) for session, account in ended])
        if newest is None:
            return
        missing = set()
        for account in list(self.hub.accounts.values()):
            for subscriber in list(account.subscribers.values()):
                client = subscriber.client
                if not client or not subscriber.session:
                    continue
                if subscriber.session in newest:
                    client.catch_up(newest[subscriber.session])
                elif subscriber.session in self._missing:
                    client.fail(ReasonCode.SESSION_TAKEN_OVER, "another gateway has its session")
                else:
                    missing.add(subscriber.session)
        self._missing = missing

    def _check_tokens(self, user: int | None) -> None:
        for client in list(self._clients):
            if client.token_owner and user in {None, client.token_owner.user}:
                self._unchecked.add(client)
            elif client.token_owner is None:
                client.forget_topics()
        if self._unchecked and (self._checking is None or self._checking.done()):
            self._checking = self.spawn(self._check_unchecked())

    async def _check_unchecked(self) -> None:
        """Asks until the database answers: a client with a revoked token must not stay connected. One task
        does it for all clients: while the database is away, we are told again and again that tokens may have
        changed."""
        while self._unchecked:
            client = self._unchecked.pop()  # first, so that a change meanwhile is not overlooked
            try:
                if not client.ended:
                    client.refresh_token(await self.find_token_owner(client.token))
            except (OSError, TimeoutError):
                self._unchecked.add(client)
                await asyncio.sleep(SWEEP_SECONDS)
            except Exception:
                log.exception("A connection failed")
                client.end(with_will=True)

    async def in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        def run() -> Any:
            close_old_connections()
            return work(*arguments)

        async with asyncio.timeout(LOOKUP_SECONDS):
            return await self.loop.run_in_executor(self._lookups, run)
