"""Brings messages to connected clients of other gateways (decision 33). Gateways tell each other through
Valkey what their connected clients want, and send each message once to each gateway that wants it. Nothing of
that is kept: what has to last is in the queues of durable sessions."""

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Final

import msgpack
from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ingest.gateway.hub import NOWHERE, AccountHub, Hub, PeerGroup, Sending, Subscriber
from ingest.gateway.local_subscriptions import ALL, Key, LocalSubscriptions
from ingest.gateway.peer import (
    ALL_SENT,
    CONFIRM,
    FRAMES,
    VERSION,
    Frame,
    FrameHeader,
    FullKey,
    Peer,
    PeerMessage,
)
from ingest.gateway.publishes import Forwarded, new_message
from ingest.metrics import Metrics
from ingest.mqtt.packets import PUBLISH, Subscription
from ingest.mqtt.properties import read_properties, write_properties
from ingest.mqtt.wire import Reader
from thingscale.accounts.models import User
from thingscale.devices.mqtt_store.subscriptions import StoredSubscription
from thingscale.lib import env

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
ALONE_SECONDS = 5.0  # between two heartbeats, as long as there are no peers
SILENT_SECONDS = 3.0  # after which a peer, or our own connection, is taken for dead
VALKEY_SECONDS = 1.0  # for an answer
RECONNECT_SECONDS = 0.5
SUBSCRIBE_SECONDS = 1.0  # that a SUBSCRIBE waits for the peers
HOLD_SECONDS = 2.0  # that messages of peers wait for a SUBSCRIBE
START_SECONDS = 2.0  # that a new gateway waits for the subscriptions of the others
SIGN_OFF_SECONDS = 0.5
MAX_WAITING = 16 * 2**20  # bytes that may wait for Valkey; of one account a part in SHARE
SHARE = 4
OVERHEAD = 200  # bytes that a message takes beside its own
MAX_HELD = 1_000  # messages of one account that wait for its SUBSCRIBEs
MAX_HELD_BYTES = 4 * 2**20
MAX_ALL_HELD_BYTES = 64 * 2**20  # of all accounts
FAILURES = (RedisError, OSError, TimeoutError)

_TO_SUBSCRIBERS: Final = 1 << 3  # flag of a message that is not only for members of share groups


class Hold:
    """A SUBSCRIBE on its way, for which the messages of peers wait."""

    __slots__ = ("over", "peers")

    def __init__(self) -> None:
        self.peers: list[Peer] = []  # that have applied it
        self.over = False


class HeldMessages:
    """Of an account and a peer: the SUBSCRIBEs that the peer has applied and that are not answered, and the
    messages that came from the peer behind each of them."""

    __slots__ = ("entries", "messages", "size")

    def __init__(self) -> None:
        self.entries: deque[Hold | tuple[float, tuple[Any, ...]]] = deque()
        self.messages = self.size = 0


class Peers:
    def __init__(self, key: int, hub: Hub, metrics: Metrics) -> None:
        self.known: dict[int, Peer] = {}
        self._key = key
        self._hub = hub
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        valkey, database = env.database_of(settings.REDIS_URL), settings.DATABASES["default"]["NAME"]
        self._channel = f"thingscale{valkey}:{database}:gateways"  # publishing knows no databases of Valkey
        self._epoch = time.time_ns()  # higher than that of any other process that had our key
        self._connection = 0  # number of our connection to Valkey
        self._connected = False
        self._due = asyncio.Event()  # there is something to send
        self._back_at = -math.inf
        self._heartbeat_due_at = self._heartbeat_sent_at = self._heartbeat_returned_at = 0.0
        self._in_flight: list[Frame] = []
        self._waiting_bytes = 0  # of messages
        self._waiting_bytes_of: Counter[int] = Counter()  # by account
        self._held: dict[tuple[int, Peer], HeldMessages] = {}  # by account
        self._held_bytes = 0
        self._signing_off = False
        self._signed_off = asyncio.Event()
        self._peer_added = asyncio.Event()
        self._away = False  # Valkey is, and the log says so

    # The connection to Valkey

    async def run(self) -> None:
        options: dict[str, Any] = {
            "socket_timeout": VALKEY_SECONDS,
            "socket_connect_timeout": VALKEY_SECONDS,
            "retry": Retry(NoBackoff(), 0),  # a command that is sent again would deliver twice
        }
        channels = (self._channel, f"{self._channel}:{self._key}")
        while True:
            try:
                async with Redis.from_url(settings.REDIS_URL, **options) as client, client.pubsub() as pubsub:
                    await pubsub.subscribe(*channels)
                    for _ in channels:
                        if await pubsub.get_message(timeout=VALKEY_SECONDS) is None:
                            raise TimeoutError
                    self._on_connect()
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._read(pubsub))
                        tasks.create_task(self._write(client))
            except* FAILURES as failures:
                if not self._away:
                    self._away = True
                    name = type(failures.exceptions[0]).__name__
                    log.warning("Valkey is away (%s): gateways tell each other no messages", name)
            finally:
                self._on_disconnect()
            await asyncio.sleep(RECONNECT_SECONDS)

    def _on_connect(self) -> None:
        """Sends everything again, since messages of the time without a connection are lost."""
        now = self._loop.time()
        self._epoch += 1
        self._connection = self._epoch
        self._connected = True
        self._heartbeat_due_at = self._heartbeat_sent_at = self._heartbeat_returned_at = now
        if self._away:
            log.info("Valkey is back")
            self._back_at = now
        self._away = False
        for peer in self.known.values():
            peer.seen_at = now
            peer.reachable = True
            self._send_all_changes(peer)
        self._due.set()

    def _on_disconnect(self) -> None:
        """Remembers what the clients of peers want, and counts the messages that they miss."""
        self._connected = False
        for frame in self._in_flight:
            self._metrics.peer_dropped += frame.messages
            frame.peer.sent -= frame.messages
        for peer in self.known.values():
            peer.reachable = False
            self._metrics.peer_dropped += sum(each.user > 0 for each in peer.outgoing)
            peer.outgoing.clear()
            peer.changes.clear()
            peer.wakes.clear()
            peer.stop_waiting()
        self._in_flight = []
        self._waiting_bytes = 0
        self._waiting_bytes_of.clear()

    async def wait_for_peers(self, gateways: Collection[int]) -> None:
        """At the start: until these gateways have said what their clients want, so that what is published
        here reaches them."""
        others = set(gateways) - {self._key}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while missing := others - self.known.keys():
                    self._peer_added.clear()
                    log.debug("Waiting for %d gateways", len(missing))
                    await self._peer_added.wait()
                for peer in [self.known[key] for key in others]:
                    await peer.complete.wait()

    async def sign_off(self) -> None:
        """Sends what still waits, and then that this gateway is gone."""
        self._signing_off = True
        self._due.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SIGN_OFF_SECONDS if self._connected else 0):
                await self._signed_off.wait()

    async def _write(self, client: "Redis") -> None:
        while not self._signed_off.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(self._heartbeat_due_at - self._loop.time(), 0)):
                    await self._due.wait()
            self._due.clear()
            now = self._loop.time()
            heartbeat_due = now >= self._heartbeat_due_at
            frames = self._in_flight = self._next_frames()
            signs_off = self._signing_off and not frames
            if not frames and not heartbeat_due and not signs_off:
                continue
            pipeline = client.pipeline(transaction=False)
            for frame in frames:
                pipeline.publish(f"{self._channel}:{frame.peer.key}", frame.data)
            if heartbeat_due or signs_off:
                heartbeat = (VERSION, self._key, self._connection, not signs_off)
                pipeline.publish(self._channel, msgpack.packb(heartbeat))
                self._heartbeat_sent_at = now
                self._heartbeat_due_at = now + (HEARTBEAT_SECONDS if self.known else ALONE_SECONDS)
            answers: list[int] = await pipeline.execute()
            self._in_flight = []
            for frame, listeners in zip(frames, answers, strict=False):
                if listeners:
                    self._release_bytes(frame.outgoing)
                    self._metrics.peer_messages += frame.messages
                else:
                    self._drop(frame.outgoing)
                    if now - self._back_at > SILENT_SECONDS:  # else it may have to connect again first
                        self._forget(frame.peer)
            if signs_off:
                self._signed_off.set()
            if heartbeat_due:
                for peer in list(self.known.values()):
                    if now - peer.seen_at > SILENT_SECONDS:
                        self._forget(peer)
        await asyncio.Event().wait()

    def _next_frames(self) -> list[Frame]:
        frames: list[Frame] = []
        for peer in self.known.values():
            for _ in range(FRAMES):
                frame = peer.next_frame(self._key, self._connection, self._local_subscriptions_of)
                if frame is None:
                    break
                frames.append(frame)
            else:
                self._due.set()
        return frames

    async def _read(self, pubsub: PubSub) -> None:
        while True:
            message = await pubsub.get_message(timeout=HEARTBEAT_SECONDS)
            silent = self._loop.time() - self._heartbeat_sent_at > SILENT_SECONDS
            if self._heartbeat_sent_at > self._heartbeat_returned_at and silent:
                raise TimeoutError  # our own heartbeat has not come back
            if message is None or message["type"] != "message":
                continue
            try:
                if message["channel"].decode() != self._channel:
                    self._read_frame(message["data"])
                    continue
                version, key, connection, lives = msgpack.unpackb(message["data"])
                if key == self._key:
                    self._heartbeat_returned_at = self._loop.time()
                elif version == VERSION and lives:
                    self._note_alive(key, connection)
                elif peer := self.known.get(key):
                    self._forget(peer)
            except Exception:
                log.exception("What another gateway has told can't be read")

    def _read_frame(self, data: bytes) -> None:
        unpacker = msgpack.Unpacker(use_list=False, max_buffer_size=0)
        unpacker.feed(data)
        fields = next(unpacker)
        if fields[0] != VERSION:
            return
        header = FrameHeader(*fields)
        peer = self._note_alive(header.gateway, header.connection)
        begins = header.epoch != peer.epoch and not header.number
        follows = (header.epoch, header.number) == (peer.epoch, peer.number + 1)
        if begins:
            peer.unconfirmed = set(peer.wants)
            peer.missed_epoch = 0
        elif not follows and peer.missed_epoch != header.epoch:
            peer.missed_epoch, peer.owes_request = header.epoch, True
            self._due.set()
        peer.epoch, peer.number = header.epoch, header.number
        records = list(unpacker)
        messages = sum(len(record) > 2 for record in records)
        if 0 <= peer.received < header.sent:
            self._metrics.peer_dropped += header.sent - peer.received
        peer.received = header.sent + messages
        if messages:
            peer.owes_receipt = True
            self._due.set()
        peer.messages_received(header.received)
        if header.missed_epoch == peer.our_epoch:
            self._send_all_changes(peer)
        for *key, value in header.changes:
            self._apply_change(peer, tuple(key), value)
        if header.changes:
            confirmation = msgpack.packb((header.epoch, header.changes_sent))
            peer.outgoing.append(PeerMessage(0, 0, confirmation))
            self._due.set()
        for record in records:
            if len(record) == 2:
                peer.changes_applied(*record)
            else:
                self._receive(peer, record)
        for session, user, number in header.wakes:
            account = self._hub.accounts.get(user)
            local = account.local_subscriptions if account else None
            if client := local.sessions.get(session) if local else None:
                client.catch_up(number)

    # Which peers there are

    def _note_alive(self, key: int, connection: int) -> Peer:
        peer = self.known.get(key)
        if peer is None:
            log.info("There is another gateway")
            peer = self.known[key] = Peer(key, self._due.set)
            self._hub.new_account = self._local_subscriptions_of
            self._heartbeat_due_at = 0.0
            self._peer_added.set()
        if peer.connection != connection:
            peer.connection = connection
            self._send_all_changes(peer)
        peer.seen_at = self._loop.time()
        return peer

    def _send_all_changes(self, peer: Peer) -> None:
        self._epoch += 1
        peer.send_all_changes(self._epoch, self._hub.accounts.values())

    def _forget(self, peer: Peer) -> None:
        if self.known.get(peer.key) is not peer:
            return
        log.info("Another gateway has gone")
        del self.known[peer.key]
        for key in peer.wants:
            self._set_wanted(peer, key, 0)
        peer.wants.clear()
        peer.stop_waiting()
        self._drop(peer.outgoing)
        peer.outgoing.clear()
        if not self.known:
            self._hub.new_account = lambda account: None
            for account in self._hub.accounts.values():
                account.local_subscriptions = None

    # What our clients want

    def _local_subscriptions_of(self, account: AccountHub) -> LocalSubscriptions:
        if account.local_subscriptions is None:
            local = LocalSubscriptions()
            for subscriber in account.subscribers.values():
                if subscriber.client:
                    filters = account.tree.filters(subscriber)
                    local.connected(subscriber.session, subscriber.client, filters)
            local.on_change = partial(self._send_change, account.user)
            account.local_subscriptions = local
        return account.local_subscriptions

    def _send_change(self, user: int, key: Key, value: int) -> None:
        if self._connected:  # else everything is sent again later
            for peer in self.known.values():
                peer.send_change((user, *key), value)

    @contextlib.asynccontextmanager
    async def subscribing(
        self,
        account: AccountHub,
        subscriber: Subscriber,
        subscriptions: Sequence[tuple[Subscription, StoredSubscription]],
    ) -> AsyncIterator[None]:
        """Around a SUBSCRIBE: first the peers apply it, then the retained messages are read. The messages
        that peers send meanwhile wait, so that the client misses none between the two. What the peers have
        routed before they apply it does not wait: it was published before the SUBSCRIBE."""
        if not self.known:
            yield
            return
        local = self._local_subscriptions_of(account)
        hold = Hold()
        timer = self._loop.call_later(HOLD_SECONDS, self._release, account, hold)
        wanted = [
            (subscribed.group, subscribed.filter, subscriber.session, subscription.qos)
            for subscription, subscribed in subscriptions
        ]
        for each in wanted:
            local.add(*each)
        unconfirmed = set(self.known.values())
        all_applied: asyncio.Future[None] = self._loop.create_future()

        def applied(peer: Peer) -> None:
            unconfirmed.discard(peer)
            if not hold.over:
                hold.peers.append(peer)
                self._held.setdefault((account.user, peer), HeldMessages()).entries.append(hold)
            if not unconfirmed and not all_applied.done():
                all_applied.set_result(None)

        try:
            if self._connected:
                for peer in self.known.values():
                    peer.when_applied(partial(applied, peer))
                await asyncio.wait({all_applied}, timeout=SUBSCRIBE_SECONDS)
            yield
        finally:
            timer.cancel()
            if account.local_subscriptions is local:
                for each in wanted:  # they are in the tree now, or the client has gone
                    local.remove(*each)
            self._release(account, hold)

    # What the clients of peers want

    def _apply_change(self, peer: Peer, key: FullKey, value: int) -> None:
        if key == CONFIRM:
            return
        if key == ALL_SENT:
            for old in peer.unconfirmed:
                if peer.wants.pop(old, 0):
                    self._set_wanted(peer, old, 0)
            peer.unconfirmed = set()
            peer.complete.set()
            return
        peer.unconfirmed.discard(key)
        if value != peer.wants.get(key, 0):
            self._set_wanted(peer, key, value)
        if value:
            peer.wants[key] = value
        else:
            peer.wants.pop(key, None)

    def _set_wanted(self, peer: Peer, key: FullKey, value: int) -> None:
        user, *rest = key
        account = self._hub.account(user, User(pk=user).user_id)
        if len(rest) == 1:
            account.set_peer_session(peer, rest[0], value)
        else:
            group, filter_ = rest
            account.set_peer_subscription(peer, group, filter_, value)

    # Messages to peers

    def forward(
        self,
        account: AccountHub,
        message: Forwarded,
        groups: Sequence[PeerGroup] = (),
        to_all: bool = True,
    ) -> None:
        """Sends it once to each peer that wants it or has the chosen member of a share group."""
        topic, payload, qos, retain, properties, command = message
        targets: dict[Peer, list[tuple[str, str]]] = {}
        if to_all and account.peer_subscriptions is not None:
            for match in account.peer_subscriptions.match(topic):
                if match.qos == ALL or not qos:
                    targets[match.subscriber] = []
        subscribed = set(targets) if groups else ()
        for peer, group, filter_ in groups:
            targets.setdefault(peer, []).append((group, filter_))
        if not targets:
            return
        written = write_properties(properties, PUBLISH) if properties else b""
        size = len(topic) + len(payload) + len(written) + OVERHEAD
        flags = qos | retain << 2
        packed = b""  # the same for all peers that have no chosen member
        for peer, chosen in targets.items():
            has_room = (
                self._connected
                and self._waiting_bytes + size <= MAX_WAITING
                and self._waiting_bytes_of[account.user] + size <= MAX_WAITING // SHARE
            )
            if not has_room or self.known.get(peer.key) is not peer:
                self._metrics.peer_dropped += 1
                continue
            if chosen or not packed:
                bits = flags | _TO_SUBSCRIBERS if not chosen or peer in subscribed else flags
                packed = msgpack.packb((account.user, bits, topic, payload, written, command, chosen))
            peer.outgoing.append(PeerMessage(account.user, size, packed))
            if chosen:
                packed = b""
            self._waiting_bytes += size
            self._waiting_bytes_of[account.user] += size
        self._due.set()

    def _release_bytes(self, outgoing: Iterable[PeerMessage]) -> None:
        """These messages do not wait any more."""
        for user, size, _ in outgoing:
            if not user:
                continue
            self._waiting_bytes -= size
            rest = self._waiting_bytes_of[user] - size
            if rest:
                self._waiting_bytes_of[user] = rest
            else:
                del self._waiting_bytes_of[user]

    def _drop(self, outgoing: Collection[PeerMessage]) -> None:
        self._release_bytes(outgoing)
        self._metrics.peer_dropped += sum(each.user > 0 for each in outgoing)

    # Messages from peers

    def _receive(self, peer: Peer, record: tuple[Any, ...]) -> None:
        account = self._hub.accounts.get(record[0])
        if account is None:
            return
        held = self._held.get((account.user, peer))
        if held is None:
            self._deliver(account, record, 0)
            return
        size = len(record[3]) + OVERHEAD
        held.entries.append((self._loop.time(), record))
        held.messages += 1
        held.size += size
        self._held_bytes += size
        if held.messages > MAX_HELD or held.size > MAX_HELD_BYTES or self._held_bytes > MAX_ALL_HELD_BYTES:
            for entry in held.entries:
                if isinstance(entry, Hold):
                    entry.over = True
            self._deliver_held(account, peer, held)

    def _release(self, account: AccountHub, hold: Hold) -> None:
        hold.over = True
        for peer in hold.peers:
            if held := self._held.get((account.user, peer)):
                self._deliver_held(account, peer, held)

    def _deliver_held(self, account: AccountHub, peer: Peer, held: HeldMessages) -> None:
        """Up to the first SUBSCRIBE that is not answered yet."""
        while held.entries:
            entry = held.entries[0]
            if isinstance(entry, Hold):
                if not entry.over:
                    return
                held.entries.popleft()
            else:
                held.entries.popleft()
                at, record = entry
                held.messages -= 1
                held.size -= len(record[3]) + OVERHEAD
                self._held_bytes -= len(record[3]) + OVERHEAD
                self._deliver(account, record, self._loop.time() - at)
        self._held.pop((account.user, peer), None)

    def _deliver(self, account: AccountHub, record: tuple[Any, ...], age: float) -> None:
        """Durable sessions get theirs from their queues. `age`: seconds that the message has waited here. If
        the clients here are too many or too slow, the message is dropped: its publisher, at another gateway,
        can't be told to wait."""
        _, flags, topic, payload, written, command, groups = record
        if len(account.time_share.waiting_work) >= min(MAX_HELD, MAX_HELD_BYTES // (len(payload) + OVERHEAD)):
            self._metrics.peer_dropped += 1
            return
        properties = read_properties(Reader(written), PUBLISH) if written else {}
        message = new_message(topic, payload, properties, command, age)
        sending = Sending(flags & 3, bool(flags & 4), NOWHERE, (), None)
        if flags & _TO_SUBSCRIBERS and account.subscriptions:
            account.deliver(message, sending)
        for group, filter_ in groups:
            account.deliver_to_group(message, sending, group, filter_)
