"""The device gateway: listeners, the sessions, and what they share."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.db import Error
from django.utils import timezone

from ingest import refusals, topics
from ingest.grants import Grant, Grants, key_of_user
from ingest.message import STORED, Kind, Outcome, RawMessage, Reason, Status
from ingest.mqtt import upstream
from ingest.mqtt.connection import Connection, WebSocketConnection
from ingest.mqtt.durable import DurableSessions
from ingest.mqtt.handover import RETRY_SECONDS, Handover
from ingest.mqtt.inbound import MAX_SOURCE, Aim, Chunk
from ingest.mqtt.packets import V5, Connect, ReasonCode, Version, Will
from ingest.mqtt.presence import PresenceWriter
from ingest.mqtt.properties import Property
from ingest.mqtt.publisher import Publisher
from ingest.mqtt.session import Session
from ingest.pipeline import QueueFull
from ingest.service import connect
from ingest.store import RemoteIngest
from thingscale.background.watched import keep_going, log_failure
from thingscale.devices.presence import ClientKey, Presence
from thingscale.invalidation import Change
from thingscale.lib.clock import now_us
from thingscale.lib.collecting import let_go
from thingscale.web.tls import Certificate

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
PING_SECONDS = 60.0  # of the links to the upstream broker
LOOKUP_SECONDS = 10.0
LAST_SECONDS = 0.1
MAX_WILLS_WAITING = 10_000
MAX_FAILED = 10_000  # messages that wait until storing them is tried again
FAILED_SECONDS = 1.0


class Gateway:
    def __init__(self, store: socket.socket) -> None:
        """`store`: the connection to the store's process."""
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self.ingest = RemoteIngest(store, self._changed)
        self.grants: Grants = self.ingest.grants
        self.allow_anonymous: bool = settings.ALLOW_ANONYMOUS
        self.publisher = Publisher()
        self._presence = PresenceWriter(connect)
        self._sessions: set[Session] = set()
        self._by_client: dict[ClientKey, Session] = {}
        self.durable = DurableSessions(self._by_client.__contains__, self._unwatch)
        self._unchecked: set[Session] = set()  # their tokens may have been revoked
        self._checking: asyncio.Task[None] | None = None
        self._watchers: dict[int, set[ClientKey]] = {}  # user -> clients that see ingest topics
        self.handover = Handover(self.ingest.pipeline, self._relax)
        self._wills: dict[ClientKey, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rounds: list[asyncio.Task[None]] = []
        self._lookups = ThreadPoolExecutor(4, thread_name_prefix="lookups")
        self._servers: list[asyncio.Server] = []
        self._failed = 0
        self._sign_ins = refusals.sign_ins()
        self.draining = False

    # Life

    async def start(self) -> None:
        await self.ingest.start()
        await self._load_durable()
        self._presence.start()
        await self.publisher.start()
        rounds = {"sweep": self._sweep, "durable sessions": self._end_durable}
        self._rounds = [self.spawn(keep_going(name, work)) for name, work in rounds.items()]
        await self._listen()

    async def stop(self) -> None:
        """Takes no more, stores what was taken, answers it, and closes."""
        self.draining = True
        for server in self._servers:
            server.close()
        for session in list(self._sessions):
            session.hold(True)
        deadline = self.now() + settings.DRAIN_SECONDS
        await self._drain(deadline)
        for session in list(self._sessions):
            session.fail(ReasonCode.SERVER_SHUTTING_DOWN, "shutting down")  # and its will is due
        self.handover.flush()
        drained = await self.ingest.stop(max(deadline - self.now(), 1.0))
        for task in self._rounds:
            task.cancel()
        await self.durable.stop(max(deadline - self.now(), 1.0))
        await asyncio.sleep(LAST_SECONDS)  # what tells subscribers is on its way
        await self.publisher.stop()
        await asyncio.to_thread(self._presence.stop)
        for task in self._tasks:
            task.cancel()
        self._lookups.shutdown(wait=False, cancel_futures=True)
        log.info("Stopped; %s", "all that was accepted is stored" if drained else "the store was away")

    async def _drain(self, deadline: float) -> None:
        """Until what the clients sent is stored and answered, or time is up."""
        # The writer's thread sets no event.
        while self.handover.pending and self.now() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(RETRY_SECONDS)
        await asyncio.sleep(0)  # the last answers are written

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)
        return task

    async def _listen(self) -> None:
        plain: list[tuple[int, type[Connection]]] = [
            (settings.MQTT_PORT, Connection),
            (settings.MQTT_WS_PORT, WebSocketConnection),
        ]
        for port, kind in plain:
            await self._serve(port, kind, None)
        if settings.TLS_CERT:
            certificate = Certificate(settings.TLS_CERT, settings.TLS_KEY)
            self._rounds.append(self.spawn(keep_going("certificate", certificate.follow)))
            context = certificate.context
            await self._serve(settings.MQTT_TLS_PORT, Connection, context)
            await self._serve(settings.MQTT_WSS_PORT, WebSocketConnection, context)

    async def _serve(self, port: int, kind: type[Connection], context: ssl.SSLContext | None) -> None:
        if not port:
            return
        server = await self._loop.create_server(
            lambda: kind(self._new_session),
            settings.BIND,
            port,
            ssl=context,
            backlog=4096,
            ssl_handshake_timeout=settings.CONNECT_SECONDS if context else None,
        )
        self._servers.append(server)
        log.info("Listening on %s:%d (%s%s)", settings.BIND, port, kind.__name__, ", TLS" if context else "")

    def _new_session(self, connection: Connection) -> Session | None:
        if self.draining or len(self._sessions) >= settings.MAX_CONNECTIONS:
            return None
        session = Session(self, connection)
        self._sessions.add(session)
        return session

    async def _sweep(self) -> None:
        pinged = self.now()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self.now()
            ping = now - pinged > PING_SECONDS
            self.durable.write()
            for session in list(self._sessions):
                self._check_one(session, now, ping)
            if ping:
                pinged = now

    def _check_one(self, session: Session, now: float, ping: bool) -> None:
        try:
            session.check(now)
            if ping:
                session.outbound.ping()
        except Exception:
            log.exception("A connection failed")  # and only that one
            session.end(with_will=True)

    async def _end_durable(self) -> None:
        while True:
            await asyncio.sleep(settings.DURABLE_END_SECONDS)
            try:
                await self.durable.end_those_over()
            except (Error, TimeoutError) as error:
                log.warning("Durable sessions that are over stay: %s", type(error).__name__)
                let_go(error)
            except Exception:
                log.exception("Durable sessions that are over stay")

    # Sessions coming and going

    async def find_grant(self, token: str) -> Grant | None:
        """Raises OSError or TimeoutError while the database is away."""
        known = self.grants.known(token)
        if not isinstance(known, bool):
            return known
        if not known:
            return None
        try:
            grant: Grant | None = await self._in_thread(self.grants.find, token)
        except Error as error:
            let_go(error)
            raise OSError(str(error)) from None
        return grant

    def note_refused_sign_in(self, packet: Connect, grant: Grant | None) -> None:
        """For the list of its account: whose token it was, or else whose user name."""
        name = grant.user_id if grant else packet.username or ""
        if self._sign_ins.due(name[:20], packet.client_id[:64], self.now()):
            self.spawn(self._record_sign_in(packet, grant))

    async def _record_sign_in(self, packet: Connect, grant: Grant | None) -> None:
        with contextlib.suppress(Error, TimeoutError, QueueFull):
            user = grant.user if grant else await self._in_thread(key_of_user, packet.username or "")
            if user:
                client = f"CONNECT as user {packet.username}, client {packet.client_id or '-'}"
                source = "".join(c if c.isprintable() else "?" for c in client)[:MAX_SOURCE]
                refused = Reason.SIGN_IN_REFUSED
                message = RawMessage(user, "", None, Kind.JSON, b"", now_us(), refused=refused, source=source)
                self.ingest.pipeline.accept([message], lambda outcomes: None)

    async def joined(self, session: Session) -> bool:
        """Takes over an older connection of the same client. Whether the client's session was kept."""
        assert session.connect is not None
        key = session.key
        older = self._by_client.get(key)
        self._by_client[key] = session  # first, so that the session does not end with the older connection
        if older:
            older.fail(ReasonCode.SESSION_TAKEN_OVER, "the client connected again")
        self._cancel_will(key, session.connect.clean_start)
        await self.durable.settled(key)
        known = self.durable.find(key)
        kept = None if known and (session.connect.clean_start or known.over) else known
        if kept is None:
            self._unwatch(key)
        if known and not kept:
            self.durable.give_up(key)
            with contextlib.suppress(upstream.Refused):
                await upstream.forget(session.user_id, session.client_id)
                self.durable.end(key)
        session.durable = session.durable or kept is not None
        if session.durable:
            subscriptions = kept.subscriptions if kept else []
            self.durable.keep(key, subscriptions)
            await self.durable.written(key)
            await session.outbound.open(session.connect, subscriptions)
        return kept is not None

    def opened(self, session: Session) -> None:
        """After CONNACK: apps may know."""
        if session.grant and session.connect:
            packet = session.connect
            client = Presence(
                session.grant.user,
                session.client_id,
                session.connection.peer,
                packet.clean_start,
                packet.version,
                packet.keep_alive,
                timezone.now(),
            )
            self._presence.came(client)

    def left(self, session: Session) -> None:
        self._sessions.discard(session)
        key = session.key
        if self._by_client.get(key) is not session:
            return
        del self._by_client[key]
        self._presence.went(*key)
        if session.durable:
            self.durable.left(key, session.lives_on)
        else:
            self._unwatch(key)

    async def watch(self, session: Session, sees: bool, subscriptions: list[list[Any]]) -> None:
        """Remembers, before the broker hears of it, that this client subscribes to ingest topics."""
        key = session.key
        if sees:
            self._watchers.setdefault(key[0], set()).add(key)
        else:
            self._unwatch(key)
        if session.durable:
            self.durable.keep(key, subscriptions)
            await self.durable.written(key)

    def address(self, version: Version) -> tuple[str, int, str | None, str | None]:
        address: tuple[str, int, str | None, str | None] = (
            settings.MQTT5_UPSTREAM if version == V5 else settings.MQTT_UPSTREAM
        )
        return address

    def leave_will(self, session: Session, will: Will) -> None:
        delay = min(will.properties.get(Property.WILL_DELAY_INTERVAL, 0), session.lives_on)
        key = session.key
        if not delay or self.draining or len(self._wills) >= MAX_WILLS_WAITING:
            session.inbound.leave_will(will)
            return

        def fire() -> None:
            self._wills.pop(key, None)
            session.inbound.leave_will(will)

        self._wills[key] = (self._loop.call_later(delay, fire), fire)

    def _cancel_will(self, key: ClientKey, clean_start: bool) -> None:
        """The client is back: its session goes on, so its will is not due; unless it starts afresh."""
        timer, fire = self._wills.pop(key, (None, None))
        if timer and fire:
            timer.cancel()
            if clean_start:
                fire()

    # Messages

    def gauges(self) -> dict[str, int]:
        return {
            "connections": len(self._sessions),
            "durable_sessions": len(self.durable),
            "waiting_chunks": self.handover.waiting,
            "waiting_wills": len(self._wills),
            "failed_messages": self._failed,
        }

    def _relax(self) -> None:
        for session in list(self._sessions):
            session.inbound.relax()

    def tell(self, chunk: Chunk, outcomes: list[Outcome]) -> None:
        """After the commit: to subscribers, and the reason of a rejection to the device."""
        if not self._watchers and not chunk.retains and outcomes.count(STORED) == len(outcomes):
            return
        for message, (aim, qos, retain, _), outcome in zip(chunk.messages, chunk.sent, outcomes, strict=True):
            if outcome.status is Status.REJECTED:
                if aim.user and aim.target.device_id:
                    self.publisher.report(aim.user_id, aim.target.device_id, outcome)
            elif retain or aim.user in self._watchers:
                self.forward(aim, message.payload, qos, retain)

    def offer_again(self, chunk: Chunk) -> None:
        """What failed. Bounded: beyond that it is for the client to send again what is not acknowledged."""
        count = len(chunk.messages)
        if self._failed + count > MAX_FAILED or self.draining:
            self.ingest.pipeline.metrics.dropped += count
            chunk.inbound.dropped(count)
            return
        self._failed += count

        def offer() -> None:
            self._failed -= count
            self.handover.submit(chunk, wait=True)

        self._loop.call_later(FAILED_SECONDS, offer)

    def forward(self, aim: Aim, payload: bytes, qos: int, retain: bool) -> None:
        self.publisher.publish(f"{aim.user_id}/{aim.rest}", payload, qos, retain)

    # Changes of tokens, and durable sessions in the database

    def _changed(self, change: Change | None) -> None:
        if change is None or change[0] == "tokens":
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._check_grants, change[1] if change else None)

    def _check_grants(self, user: int | None) -> None:
        for session in list(self._sessions):
            if session.grant and user in {None, session.grant.user}:
                self._unchecked.add(session)
            elif session.grant is None:
                session.inbound.forget_topics()
        if self._unchecked and (self._checking is None or self._checking.done()):
            self._checking = self.spawn(self._check())

    async def _check(self) -> None:
        """Until it is known: a token that has been revoked must not live on. One task for all: while the
        database is away, we are told again and again that there may be changes."""
        while self._unchecked:
            session = self._unchecked.pop()  # first, so that a change meanwhile is not overlooked
            try:
                if not session.ended:
                    session.regrant(await self.find_grant(session.token))
            except (OSError, TimeoutError):
                self._unchecked.add(session)
                await asyncio.sleep(SWEEP_SECONDS)
            except Exception:
                log.exception("A connection failed")
                session.end(with_will=True)

    async def _load_durable(self) -> None:
        await self.durable.load()
        for key, kept in self.durable:
            if any(topics.sees_ingest(topics.split_filter(fields[0])[2]) for fields in kept.subscriptions):
                self._watchers.setdefault(key[0], set()).add(key)

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        async with asyncio.timeout(LOOKUP_SECONDS):
            return await self._loop.run_in_executor(self._lookups, work, *arguments)

    def _unwatch(self, key: ClientKey) -> None:
        watchers = self._watchers.get(key[0])
        if watchers:
            watchers.discard(key)
            if not watchers:
                del self._watchers[key[0]]
