"""What connected clients get that is published at another gateway (decision 33). Gateways tell each other
through Valkey, first what their clients want (interest.py), then, once a peer, each message that somebody
there wants. Nothing of that lasts: what has to is in the queues of sessions."""

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

import msgpack
from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ingest.gateway.hub import NOWHERE, Account, GroupElsewhere, Hub, Sending, Subscriber
from ingest.gateway.interest import ALL, Interest, Key
from ingest.gateway.publishes import Forwarded, new_message
from ingest.metrics import Metrics
from ingest.mqtt.packets import PUBLISH, Subscription
from ingest.mqtt.properties import read_properties, write_properties
from ingest.mqtt.wire import Reader
from thingscale.accounts.models import User
from thingscale.devices.mqtt_store import Subscribed
from thingscale.lib import env

log = logging.getLogger(__name__)

VERSION: Final = 1  # of what is told; a peer that speaks another one is not understood
BEAT_SECONDS = 1.0  # between two signs of life
ALONE_SECONDS = 5.0  # the same, as long as there are no peers
SILENT_SECONDS = 3.0  # after which a peer, or our own connection, is taken for dead
VALKEY_SECONDS = 1.0  # for an answer
AGAIN_SECONDS = 0.5  # until Valkey is tried again
KNOWN_SECONDS = 1.0  # that a SUBSCRIBE waits for the peers
HOLD_SECONDS = 2.0  # that messages of peers wait for a SUBSCRIBE
MEET_SECONDS = 2.0  # at the start, until the peers have said what their clients want
LEAVE_SECONDS = 0.5
MAX_WAITING = 16 * 2**20  # bytes that may wait for Valkey; of one account a part in SHARE
SHARE = 4
OVERHEAD = 200  # bytes that a message takes beside its own
MAX_HELD = 1_000  # messages of one account that wait for its SUBSCRIBEs
MAX_HELD_BYTES = 4 * 2**20
MAX_ALL_HELD_BYTES = 64 * 2**20  # of all accounts
FRAME_BYTES = 256 * 1024  # of messages, give or take one
FRAME_CHANGES = 1_000
FRAMES = 16  # to one peer, at a time
MAX_ON_THE_WAY = (
    4 * 2**20
)  # bytes of messages to one peer: Valkey ends the connection of who has 32 MB to read
FAILURES = (RedisError, OSError, TimeoutError)

_PLAIN: Final = 1 << 3  # bit of a copy: it goes to who subscribes, not only to a share group
_DONE: Final = (0,)  # in place of a key: all that there is has been told
_ASK: Final = (1,)  # the same: only that it is heard matters

FullKey = tuple[Any, ...]  # user, and a Key


class Copy(NamedTuple):
    """A message on its way to a peer. Or, among them, of user 0: the receiver's epoch and how many of its
    changes were known before what comes behind was routed."""

    user: int
    size: int
    packed: bytes


class Header(NamedTuple):
    """What a frame begins with; copies follow."""

    version: int
    gateway: int
    connection: int  # of the sender to Valkey: with a new one it may have missed something
    epoch: int  # in which the sender tells all anew
    number: int  # of the frame in this epoch
    told: int  # copies that were told before this frame, ever
    taken: int  # changes, with those of this frame
    received: int  # copies that the sender has got from the receiver
    again: int  # an epoch of the receiver, something of which is missing; 0: there is none
    changes: Sequence[tuple[Any, ...]]
    wakes: Sequence[tuple[int, int, int]]  # session, account, newest number in its queue


class Frame(NamedTuple):
    peer: "Peer"
    data: bytes
    copies: list[Copy]
    messages: int


class Peer:
    """Another gateway: what it has told us, and what it is still to be told."""

    def __init__(self, key: int, due: Callable[[], None]) -> None:
        self.key = key
        self.connection = 0
        self.heard_at = 0.0
        self.reachable = True
        self._due = due
        # What it tells
        self.epoch = 0
        self.number = -1  # of its last frame
        self.received = -1  # copies; -1: there was no frame
        self.wants: dict[FullKey, int] = {}
        self.unconfirmed: set[FullKey] = set()  # of these, while it tells all anew
        self.complete = asyncio.Event()  # it has told all
        self.broken = 0  # the epoch, if something of it is missing: it is to tell all anew
        # What it is told
        self.new_epoch = 0
        self.next_number = 0
        self.told = 0  # copies
        self.on_the_way: deque[tuple[int, int]] = deque()  # of frames: copies told up to it, bytes
        self.bytes_on_the_way = 0
        self.acknowledges = False  # it is to hear how many of its copies are here
        self.accounts: deque[Account] | None = None  # whose interest is still to be told
        self.changes: dict[FullKey, int] = {}
        self.added = self.taken = 0  # changes: put above, and told
        self.waiting: deque[tuple[int, Callable[[], None]]] = deque()  # until so many are heard
        self.waiting_for_all: list[Callable[[], None]] = []
        self.asks = False  # it is to hear that it has to tell all anew
        self.copies: deque[Copy] = deque()
        self.wakes: dict[int, tuple[int, int]] = {}  # by session: account and number

    def tell_all(self, epoch: int, accounts: Iterable[Account]) -> None:
        self.new_epoch, self.next_number = epoch, 0
        self.accounts = deque(accounts)
        self.changes.clear()
        self.taken = self.added
        self.waiting_for_all += [heard for _, heard in self.waiting]
        self.waiting.clear()
        self.on_the_way.clear()
        self.bytes_on_the_way = 0
        self._due()

    def change(self, key: FullKey, value: int) -> None:
        if key not in self.changes:
            self.added += 1
        self.changes[key] = value
        self._due()

    def wake(self, user: int, session: int, number: int) -> None:
        """The queue of a session that lasts, whose client is connected to it, has something new."""
        self.wakes[session] = user, number
        self._due()

    def when_heard(self, heard: Callable[[], None]) -> None:
        """Called once it has heard all that has changed so far, in front of what it routes behind that."""
        self.change(_ASK, 0)
        if self.accounts is None:
            self.waiting.append((self.added, heard))
        else:
            self.waiting_for_all.append(heard)

    def has_heard(self, epoch: int, changes: int) -> None:
        if epoch == self.new_epoch:
            while self.waiting and self.waiting[0][0] <= changes:
                self.waiting.popleft()[1]()

    def has_received(self, copies: int) -> None:
        while self.on_the_way and self.on_the_way[0][0] <= copies:
            self.bytes_on_the_way -= self.on_the_way.popleft()[1]
        if self.copies:
            self._due()

    def wait_no_more(self) -> None:
        for heard in (*self.waiting_for_all, *(heard for _, heard in self.waiting)):
            heard()
        self.waiting.clear()
        self.waiting_for_all.clear()

    def next_frame(
        self, sender: int, connection: int, interest: Callable[[Account], Interest]
    ) -> Frame | None:
        while self.accounts and len(self.changes) < FRAME_CHANGES:
            account = self.accounts.popleft()
            for key, value in interest(account).items():
                self.change((account.user, *key), value)
        if self.accounts is not None and not self.accounts:
            self.accounts = None
            self.change(_DONE, 0)
            self.waiting.extend((self.added, heard) for heard in self.waiting_for_all)
            self.waiting_for_all.clear()
        has_room = self.bytes_on_the_way < MAX_ON_THE_WAY
        if not ((self.copies and has_room) or self.changes or self.wakes or self.asks or self.acknowledges):
            return None
        changes: list[tuple[Any, ...]] = []
        size_of_changes = 0
        for key in list(islice(self.changes, FRAME_CHANGES)):
            if size_of_changes >= FRAME_BYTES // FRAMES:
                break
            changes.append((*key, self.changes.pop(key)))
            size_of_changes += sum(4 * len(part) for part in key if isinstance(part, str))
        self.taken += len(changes)
        copies: list[Copy] = []
        size = 0
        while self.copies and size < FRAME_BYTES and has_room:
            copies.append(self.copies.popleft())
            size += copies[-1].size
        sessions = list(islice(self.wakes, FRAME_CHANGES))
        wakes = [(session, *self.wakes.pop(session)) for session in sessions]
        header = Header(
            *(VERSION, sender, connection, self.new_epoch, self.next_number, self.told, self.taken),
            *(max(self.received, 0), self.broken, changes, wakes),
        )
        messages = sum(copy.user > 0 for copy in copies)
        self.next_number += 1
        self.told += messages
        self.asks = self.acknowledges = False
        if messages:
            self.on_the_way.append((self.told, size))
            self.bytes_on_the_way += size
        data = b"".join((msgpack.packb(header), *(copy.packed for copy in copies)))
        return Frame(self, data, copies, messages)


class Hold:
    """A SUBSCRIBE that messages of peers wait for."""

    __slots__ = ("over", "peers")

    def __init__(self) -> None:
        self.peers: list[Peer] = []  # that know of it
        self.over = False


class Held:
    """Of an account and a peer: SUBSCRIBEs that the peer knows of and that are not answered, and what came
    from the peer behind each."""

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
        self._connection = 0  # to Valkey
        self._connected = False
        self._due = asyncio.Event()  # there is something to tell
        self._back_at = -math.inf
        self._beat_at = self._beaten_at = self._echo_at = 0.0
        self._in_flight: list[Frame] = []
        self._waiting_bytes = 0  # of copies
        self._waiting_bytes_of: Counter[int] = Counter()  # by account
        self._held: dict[tuple[int, Peer], Held] = {}  # by account
        self._held_bytes = 0
        self._leaving = False
        self._left = asyncio.Event()
        self._changed = asyncio.Event()  # a peer has come
        self._away = False  # Valkey, and the log says so

    # Life

    async def run(self) -> None:
        options: dict[str, Any] = {
            "socket_timeout": VALKEY_SECONDS,
            "socket_connect_timeout": VALKEY_SECONDS,
            "retry": Retry(NoBackoff(), 0),  # what is sent again comes twice
        }
        while True:
            try:
                async with Redis.from_url(settings.REDIS_URL, **options) as client, client.pubsub() as pubsub:
                    await self._subscribe(pubsub)
                    self._begin()
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._read(pubsub))
                        tasks.create_task(self._write(client))
            except* FAILURES as failures:
                if not self._away:
                    self._away = True
                    name = type(failures.exceptions[0]).__name__
                    log.warning("Valkey is away (%s): gateways tell each other no messages", name)
            finally:
                self._cut_off()
            await asyncio.sleep(AGAIN_SECONDS)

    async def meet(self, gateways: Collection[int]) -> None:
        """Until those have said what their clients want, so that what is published here reaches them."""
        others = set(gateways) - {self._key}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MEET_SECONDS):
                while missing := others - self.known.keys():
                    self._changed.clear()
                    log.debug("Waiting for %d gateways", len(missing))
                    await self._changed.wait()
                for peer in [self.known[key] for key in others]:
                    await peer.complete.wait()

    async def leave(self) -> None:
        """Tells what is left, and that we are no more."""
        self._leaving = True
        self._due.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS if self._connected else 0):
                await self._left.wait()

    async def _subscribe(self, pubsub: PubSub) -> None:
        channels = (self._channel, f"{self._channel}:{self._key}")
        await pubsub.subscribe(*channels)
        for _ in channels:
            if await pubsub.get_message(timeout=VALKEY_SECONDS) is None:
                raise TimeoutError

    def _begin(self) -> None:
        """Both ways are open. What was told meanwhile is lost, so all is told anew."""
        now = self._loop.time()
        self._epoch += 1
        self._connection = self._epoch
        self._connected = True
        self._beat_at = self._beaten_at = self._echo_at = now
        if self._away:
            log.info("Valkey is back")
            self._back_at = now
        self._away = False
        for peer in self.known.values():
            peer.heard_at = now
            peer.reachable = True
            self._tell_all(peer)
        self._due.set()

    def _cut_off(self) -> None:
        """What clients of peers want is remembered: what they miss is counted."""
        self._connected = False
        for frame in self._in_flight:
            self._metrics.peer_dropped += frame.messages
            frame.peer.told -= frame.messages
        for peer in self.known.values():
            peer.reachable = False
            self._metrics.peer_dropped += sum(copy.user > 0 for copy in peer.copies)
            peer.copies.clear()
            peer.changes.clear()
            peer.wakes.clear()
            peer.wait_no_more()
        self._in_flight = []
        self._waiting_bytes = 0
        self._waiting_bytes_of.clear()

    # Peers coming and going

    def _hear(self, key: int, connection: int) -> Peer:
        peer = self.known.get(key)
        if peer is None:
            log.info("There is another gateway")
            peer = self.known[key] = Peer(key, self._due.set)
            self._hub.new_account = self._interest
            self._beat_at = 0.0
            self._changed.set()
        if peer.connection != connection:
            peer.connection = connection
            self._tell_all(peer)
        peer.heard_at = self._loop.time()
        return peer

    def _tell_all(self, peer: Peer) -> None:
        self._epoch += 1
        peer.tell_all(self._epoch, self._hub.accounts.values())

    def _forget(self, peer: Peer) -> None:
        if self.known.get(peer.key) is not peer:
            return
        log.info("Another gateway has gone")
        del self.known[peer.key]
        for key in peer.wants:
            self._set(peer, key, 0)
        peer.wants.clear()
        peer.wait_no_more()
        self._drop(peer.copies)
        peer.copies.clear()
        if not self.known:
            self._hub.new_account = lambda account: None
            for account in self._hub.accounts.values():
                account.interest = None

    def _look(self, now: float) -> None:
        for peer in list(self.known.values()):
            if now - peer.heard_at > SILENT_SECONDS:
                self._forget(peer)

    # What our clients want

    def _interest(self, account: Account) -> Interest:
        if account.interest is None:
            interest = Interest()
            for subscriber in account.subscribers.values():
                if subscriber.client:
                    filters = account.tree.filters(subscriber)
                    interest.came(subscriber.session, subscriber.client, filters)
            interest.changed = partial(self._interest_changed, account.user)
            account.interest = interest
        return account.interest

    def _interest_changed(self, user: int, key: Key, value: int) -> None:
        if not self._connected:
            return  # all is told anew
        for peer in self.known.values():
            peer.change((user, *key), value)

    @contextlib.asynccontextmanager
    async def subscribing(
        self,
        account: Account,
        subscriber: Subscriber,
        subscriptions: Sequence[tuple[Subscription, Subscribed]],
    ) -> AsyncIterator[None]:
        """Around a SUBSCRIBE: first the peers know of it, then the retained messages are read. What peers
        send meanwhile waits, so that the client misses nothing between the two."""
        if not self.known:
            yield
            return
        interest = self._interest(account)
        hold = Hold()
        timer = self._loop.call_later(HOLD_SECONDS, self._release, account, hold)
        wanted = [
            (subscribed.group, subscribed.filter, subscriber.session, subscription.qos)
            for subscription, subscribed in subscriptions
        ]
        for each in wanted:
            interest.add(*each)
        try:
            await self._tell(account, hold)
            yield
        finally:
            timer.cancel()
            if account.interest is interest:
                for each in wanted:  # they are in the tree now, or the client has gone
                    interest.remove(*each)
            self._release(account, hold)

    async def _tell(self, account: Account, hold: Hold) -> None:
        """Until the peers have heard. What they have routed before that does not wait: it was published
        before the SUBSCRIBE."""
        if not self._connected:
            return
        silent = set(self.known.values())
        all_heard: asyncio.Future[None] = self._loop.create_future()

        def heard(peer: Peer) -> None:
            silent.discard(peer)
            if not hold.over:
                hold.peers.append(peer)
                self._held.setdefault((account.user, peer), Held()).entries.append(hold)
            if not silent and not all_heard.done():
                all_heard.set_result(None)

        for peer in self.known.values():
            peer.when_heard(partial(heard, peer))
        await asyncio.wait({all_heard}, timeout=KNOWN_SECONDS)

    # What peers' clients want

    def _set(self, peer: Peer, key: FullKey, value: int) -> None:
        user, *rest = key
        account = self._hub.account(user, User(pk=user).user_id)
        if len(rest) == 1:
            account.set_session_elsewhere(peer, rest[0], value)
        else:
            group, filter_ = rest
            account.set_elsewhere(peer, group, filter_, value)

    def _learn(self, peer: Peer, key: FullKey, value: int) -> None:
        if key == _ASK:
            return
        if key == _DONE:
            for old in peer.unconfirmed:
                if peer.wants.pop(old, 0):
                    self._set(peer, old, 0)
            peer.unconfirmed = set()
            peer.complete.set()
            return
        peer.unconfirmed.discard(key)
        if value != peer.wants.get(key, 0):
            self._set(peer, key, value)
        if value:
            peer.wants[key] = value
        else:
            peer.wants.pop(key, None)

    # Messages

    def forward(
        self,
        account: Account,
        message: Forwarded,
        groups: Sequence[GroupElsewhere] = (),
        to_all: bool = True,
    ) -> None:
        """Once to each peer: that it wants it, or has the chosen member of a share group."""
        topic, payload, qos, retain, properties, command = message
        targets: dict[Peer, list[tuple[str, str]]] = {}
        if to_all and account.elsewhere is not None:
            for match in account.elsewhere.match(topic):
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
        packed = b""
        for peer, chosen in targets.items():
            if not self._has_room(account.user, size) or self.known.get(peer.key) is not peer:
                self._metrics.peer_dropped += 1
                continue
            plain = not chosen or peer in subscribed
            if chosen or not packed:
                bits = flags | _PLAIN if plain else flags
                record = (account.user, bits, topic, payload, written, command, chosen)
                packed = msgpack.packb(record)
            peer.copies.append(Copy(account.user, size, packed))
            if chosen:
                packed = b""
            self._waiting_bytes += size
            self._waiting_bytes_of[account.user] += size
        self._due.set()

    def _has_room(self, user: int, size: int) -> bool:
        return (
            self._connected
            and self._waiting_bytes + size <= MAX_WAITING
            and self._waiting_bytes_of[user] + size <= MAX_WAITING // SHARE
        )

    def _settle(self, copies: Iterable[Copy]) -> None:
        """They wait no more."""
        for user, size, _ in copies:
            if not user:
                continue
            self._waiting_bytes -= size
            left = self._waiting_bytes_of[user] - size
            if left:
                self._waiting_bytes_of[user] = left
            else:
                del self._waiting_bytes_of[user]

    def _drop(self, copies: Collection[Copy]) -> None:
        self._settle(copies)
        self._metrics.peer_dropped += sum(copy.user > 0 for copy in copies)

    def _take_copy(self, peer: Peer, copy: tuple[Any, ...]) -> None:
        account = self._hub.accounts.get(copy[0])
        if account is None:
            return
        held = self._held.get((account.user, peer))
        if held is None:
            self._deliver(account, copy, 0)
            return
        held.entries.append((self._loop.time(), copy))
        held.messages += 1
        held.size += len(copy[3]) + OVERHEAD
        self._held_bytes += len(copy[3]) + OVERHEAD
        if held.messages > MAX_HELD or held.size > MAX_HELD_BYTES or self._held_bytes > MAX_ALL_HELD_BYTES:
            for entry in held.entries:
                if isinstance(entry, Hold):
                    entry.over = True
            self._go_on(account, peer, held)

    def _release(self, account: Account, hold: Hold) -> None:
        hold.over = True
        for peer in hold.peers:
            if held := self._held.get((account.user, peer)):
                self._go_on(account, peer, held)

    def _go_on(self, account: Account, peer: Peer, held: Held) -> None:
        """With what waits for nothing any more."""
        while held.entries:
            entry = held.entries[0]
            if isinstance(entry, Hold):
                if not entry.over:
                    return
                held.entries.popleft()
            else:
                held.entries.popleft()
                at, copy = entry
                held.messages -= 1
                held.size -= len(copy[3]) + OVERHEAD
                self._held_bytes -= len(copy[3]) + OVERHEAD
                self._deliver(account, copy, self._loop.time() - at)
        self._held.pop((account.user, peer), None)

    def _deliver(self, account: Account, copy: tuple[Any, ...], age: float) -> None:
        """Sessions that last get theirs from their queues. `age`: seconds that it has waited here. What
        the clients here are too many or too slow for is dropped: its publisher can't be told to wait."""
        _, flags, topic, payload, written, command, groups = copy
        if len(account.share.works) >= min(MAX_HELD, MAX_HELD_BYTES // (len(payload) + OVERHEAD)):
            self._metrics.peer_dropped += 1
            return
        properties = read_properties(Reader(written), PUBLISH) if written else {}
        message = new_message(topic, payload, properties, command, age)
        sending = Sending(flags & 3, bool(flags & 4), NOWHERE, (), None)
        if flags & _PLAIN and account.subscriptions:
            account.deliver(message, sending)
        for group, filter_ in groups:
            account.deliver_to_group(message, sending, group, filter_)

    def _wake(self, session: int, user: int, number: int) -> None:
        account = self._hub.accounts.get(user)
        client = account.interest.sessions.get(session) if account and account.interest else None
        if client:
            client.catch_up(number)

    # Valkey

    async def _write(self, client: "Redis") -> None:
        while not self._left.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(self._beat_at - self._loop.time(), 0)):
                    await self._due.wait()
            self._due.clear()
            now = self._loop.time()
            beats = now >= self._beat_at
            frames = self._in_flight = self._next_frames()
            leaves = self._leaving and not frames
            if not frames and not beats and not leaves:
                continue
            pipeline = client.pipeline(transaction=False)
            for frame in frames:
                pipeline.publish(f"{self._channel}:{frame.peer.key}", frame.data)
            if beats or leaves:
                sign = (VERSION, self._key, self._connection, not leaves)
                pipeline.publish(self._channel, msgpack.packb(sign))
                self._beaten_at = now
                self._beat_at = now + (BEAT_SECONDS if self.known else ALONE_SECONDS)
            answers: list[int] = await pipeline.execute()
            self._in_flight = []
            for frame, listening in zip(frames, answers, strict=False):
                if listening:
                    self._settle(frame.copies)
                    self._metrics.peer_messages += frame.messages
                else:
                    self._drop(frame.copies)
                    if now - self._back_at > SILENT_SECONDS:  # else it may have to connect again first
                        self._forget(frame.peer)
            if leaves:
                self._left.set()
            if beats:
                self._look(now)
        await asyncio.Event().wait()

    def _next_frames(self) -> list[Frame]:
        frames: list[Frame] = []
        for peer in self.known.values():
            for _ in range(FRAMES):
                frame = peer.next_frame(self._key, self._connection, self._interest)
                if frame is None:
                    break
                frames.append(frame)
            else:
                self._due.set()
        return frames

    async def _read(self, pubsub: PubSub) -> None:
        while True:
            message = await pubsub.get_message(timeout=BEAT_SECONDS)
            now = self._loop.time()
            if self._beaten_at > self._echo_at and now - self._beaten_at > SILENT_SECONDS:
                raise TimeoutError  # our own sign of life has not come back
            if message is None or message["type"] != "message":
                continue
            try:
                if message["channel"].decode() == self._channel:
                    self._take_sign(message["data"])
                else:
                    self._take_frame(message["data"])
            except Exception:
                log.exception("What another gateway has told can't be read")

    def _take_sign(self, data: bytes) -> None:
        version, key, connection, lives = msgpack.unpackb(data)
        if key == self._key:
            self._echo_at = self._loop.time()
        elif version == VERSION and lives:
            self._hear(key, connection)
        elif peer := self.known.get(key):
            self._forget(peer)

    def _take_frame(self, data: bytes) -> None:
        unpacker = msgpack.Unpacker(use_list=False, max_buffer_size=0)
        unpacker.feed(data)
        fields = next(unpacker)
        if fields[0] != VERSION:
            return
        header = Header(*fields)
        peer = self._hear(header.gateway, header.connection)
        begins = header.epoch != peer.epoch and not header.number
        if begins:
            peer.unconfirmed = set(peer.wants)
            peer.broken = 0
        elif (header.epoch, header.number) != (peer.epoch, peer.number + 1) and peer.broken != header.epoch:
            peer.broken, peer.asks = header.epoch, True
            self._due.set()
        peer.epoch, peer.number = header.epoch, header.number
        copies = list(unpacker)
        count = sum(len(copy) > 2 for copy in copies)
        if 0 <= peer.received < header.told:
            self._metrics.peer_dropped += header.told - peer.received
        peer.received = header.told + count
        if count:
            peer.acknowledges = True
            self._due.set()
        peer.has_received(header.received)
        if header.again == peer.new_epoch:
            self._tell_all(peer)
        for *key, value in header.changes:
            self._learn(peer, tuple(key), value)
        if header.changes:
            peer.copies.append(Copy(0, 0, msgpack.packb((header.epoch, header.taken))))
            self._due.set()
        for copy in copies:
            if len(copy) == 2:
                peer.has_heard(*copy)
            else:
                self._take_copy(peer, copy)
        for wake in header.wakes:
            self._wake(*wake)
