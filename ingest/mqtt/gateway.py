"""The device gateway: listeners, the sessions, and what they share."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import Error, close_old_connections
from django.utils import timezone

from ingest import topics
from ingest.grants import Grant, Grants
from ingest.message import STORED, Outcome, Status
from ingest.mqtt.connection import Connection, WebSocketConnection
from ingest.mqtt.handover import RETRY_SECONDS, Handover
from ingest.mqtt.inbound import Aim, Chunk
from ingest.mqtt.packets import V5, ReasonCode, Version, Will
from ingest.mqtt.presence import PresenceWriter
from ingest.mqtt.properties import Property
from ingest.mqtt.publisher import Publisher
from ingest.mqtt.session import NEVER, Session
from ingest.service import connect
from ingest.store import RemoteIngest
from thingscale.devices import actions
from thingscale.devices.models import DurableSession
from thingscale.devices.presence import Presence
from thingscale.invalidation import Change
from thingscale.lib.collecting import let_go

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
PING_SECONDS = 60.0  # of the links to the upstream broker
LOOKUP_SECONDS = 10.0
LAST_SECONDS = 0.1
MAX_WILLS_WAITING = 10_000

ClientKey = tuple[int, str]  # user's primary key (0: anonymous), client id


class Kept(NamedTuple):
    """A durable session. `ends_at`: while its client is away, if it has an end."""

    subscriptions: list[list[Any]]
    ends_at: datetime | None = None


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
        self._durable: dict[ClientKey, Kept] = {}
        self._unchecked: set[Session] = set()  # their tokens may have been revoked
        self._checking: asyncio.Task[None] | None = None
        self._watchers: dict[int, set[ClientKey]] = {}  # user -> clients that see ingest topics
        self.handover = Handover(self.ingest.pipeline, self._relax)
        self._wills: dict[ClientKey, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lookups = ThreadPoolExecutor(4, thread_name_prefix="lookups")
        self._servers: list[asyncio.Server] = []
        self.draining = False

    # Life

    async def start(self) -> None:
        await self.ingest.start()
        await self._in_thread(self._load_durable)
        self._presence.start()
        await self.publisher.start()
        self.spawn(self._sweep())
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
        return task

    async def _listen(self) -> None:
        plain: list[tuple[int, type[Connection]]] = [
            (settings.MQTT_PORT, Connection),
            (settings.MQTT_WS_PORT, WebSocketConnection),
        ]
        for port, kind in plain:
            await self._serve(port, kind, None)
        if settings.TLS_CERT:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(settings.TLS_CERT, settings.TLS_KEY)
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
            for session in list(self._sessions):
                session.check(now)
                if ping:
                    session.outbound.ping()
            if ping:
                pinged = now
                await self._expire_durable()

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

    async def joined(self, session: Session) -> bool:
        """Takes over an older connection of the same client. Whether the client's session was kept."""
        assert session.connect is not None
        key = self._key(session)
        older = self._by_client.get(key)
        self._by_client[key] = session  # first, so that the session does not end with the older connection
        if older:
            older.fail(ReasonCode.SESSION_TAKEN_OVER, "the client connected again")
        self._cancel_will(key, session.connect.clean_start)
        known = self._durable.get(key)
        kept = None if session.connect.clean_start or _over(known) else known
        if kept is None:
            await self._forget_durable(key)
        session.durable = session.durable or kept is not None
        if known and not kept:
            await session.outbound.forget(session.connect)
        if session.durable:
            subscriptions = kept.subscriptions if kept else []
            await session.outbound.open(session.connect, subscriptions)
            await self._keep_durable(key, subscriptions)
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
        key = self._key(session)
        if self._by_client.get(key) is not session:
            return
        del self._by_client[key]
        self._presence.went(*key)
        if not session.durable:
            self._unwatch(key)
        elif not session.lives_on:
            self.spawn(self._forget_durable(key))
        elif session.lives_on != NEVER:
            ends_at = timezone.now() + timedelta(seconds=session.lives_on)
            if key in self._durable:
                self._durable[key] = self._durable[key]._replace(ends_at=ends_at)
            self.spawn(self._store(actions.session_left, *key, ends_at))

    async def watch(self, session: Session, sees: bool, subscriptions: list[list[Any]]) -> None:
        """Remembers, before the broker hears of it, that this client subscribes to ingest topics."""
        key = self._key(session)
        if sees:
            self._watchers.setdefault(key[0], set()).add(key)
        else:
            self._unwatch(key)
        if session.durable:
            await self._keep_durable(key, subscriptions)

    def address(self, version: Version) -> tuple[str, int, str | None, str | None]:
        upstream: tuple[str, int, str | None, str | None] = (
            settings.MQTT5_UPSTREAM if version == V5 else settings.MQTT_UPSTREAM
        )
        return upstream

    def leave_will(self, session: Session, will: Will) -> None:
        delay = min(will.properties.get(Property.WILL_DELAY_INTERVAL, 0), session.lives_on)
        key = self._key(session)
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
            "durable_sessions": len(self._durable),
            "waiting_chunks": self.handover.waiting,
            "waiting_wills": len(self._wills),
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

    def _load_durable(self) -> None:
        close_old_connections()
        for row in DurableSession.objects.iterator():
            key = (row.user_id, row.client_id)
            self._durable[key] = Kept(row.subscriptions, row.expires_at)
            if any(topics.sees_ingest(topics.split_filter(fields[0])[2]) for fields in row.subscriptions):
                self._watchers.setdefault(row.user_id, set()).add(key)

    async def _keep_durable(self, key: ClientKey, subscriptions: list[list[Any]]) -> None:
        self._durable[key] = Kept(subscriptions)
        await self._store(actions.keep_session, *key, subscriptions)

    async def _forget_durable(self, key: ClientKey) -> None:
        self._unwatch(key)
        if self._durable.pop(key, None):
            await self._store(actions.end_session, *key)

    async def _expire_durable(self) -> None:
        for key in [key for key, kept in self._durable.items() if _over(kept)]:
            if _over(self._durable.get(key)):  # its client may be back
                await self._forget_durable(key)

    async def _store(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            await self._in_thread(_run, action, *arguments)
        except (Error, TimeoutError) as error:
            log.warning("A durable session was not written: %s", type(error).__name__)

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        async with asyncio.timeout(LOOKUP_SECONDS):
            return await self._loop.run_in_executor(self._lookups, work, *arguments)

    def _unwatch(self, key: ClientKey) -> None:
        watchers = self._watchers.get(key[0])
        if watchers:
            watchers.discard(key)
            if not watchers:
                del self._watchers[key[0]]

    @staticmethod
    def _key(session: Session) -> ClientKey:
        return (session.grant.user if session.grant else 0), session.client_id


def _over(kept: Kept | None) -> bool:
    return kept is not None and kept.ends_at is not None and kept.ends_at < timezone.now()


def _run(action: Callable[..., None], *arguments: Any) -> None:
    close_old_connections()
    action(*arguments)
