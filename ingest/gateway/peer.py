"""What one other gateway has told us, and what we have to send to it. peers.py carries it through Valkey.

Both gateways send each other changes (what their connected clients want, see local_subscriptions.py) and
messages, in frames that are numbered. A gateway that misses a frame asks the other to send all its changes
again, which begins a new epoch.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import msgpack

from ingest.gateway.hub import AccountHub
from ingest.gateway.local_subscriptions import LocalSubscriptions

VERSION: Final = 1  # of the frames; a gateway that sends another one is not understood
FRAME_BYTES = 256 * 1024  # of messages, give or take one
FRAME_CHANGES = 1_000
FRAMES = 16  # to one peer, at a time
# Bytes of messages to one peer: Valkey ends a connection that has 32 MB to read.
MAX_IN_FLIGHT_BYTES = 4 * 2**20

FullKey = tuple[Any, ...]  # user, and a Key of LocalSubscriptions; or one of these two:
ALL_SENT: Final = (0,)  # the sender has sent all its changes
CONFIRM: Final = (1,)  # the sender only wants to know when this has arrived


class PeerMessage(NamedTuple):
    """A message on its way to a peer. One of user 0 is none: it confirms that the changes of the peer, up to
    a number in an epoch, were applied before the messages behind it were routed."""

    user: int
    size: int
    packed: bytes


class FrameHeader(NamedTuple):
    """The beginning of a frame. Messages follow."""

    version: int
    gateway: int
    connection: int  # of the sender to Valkey: with a new one it may have missed something
    epoch: int
    number: int  # of the frame in this epoch
    sent: int  # messages that the sender has sent to the receiver before this frame
    changes_sent: int  # changes, with those of this frame
    received: int  # messages that the sender has got from the receiver
    missed_epoch: int  # of the receiver: it is to send all its changes again; 0: nothing is missing
    changes: Sequence[tuple[Any, ...]]
    wakes: Sequence[tuple[int, int, int]]  # session, account, newest number in the session's queue


class Frame(NamedTuple):
    peer: "Peer"
    data: bytes
    outgoing: list[PeerMessage]
    messages: int  # among those


class Peer:
    """Another gateway. `due` is called when there is something to send to it."""

    def __init__(self, key: int, due: Callable[[], None]) -> None:
        self.key = key
        self.connection = 0
        self.seen_at = 0.0
        self.reachable = True
        self._due = due
        # What it has told us:
        self.epoch = 0
        self.number = -1  # of its last frame
        self.received = -1  # messages; -1: there was no frame yet
        self.wants: dict[FullKey, int] = {}
        self.unconfirmed: set[FullKey] = set()  # of those, in a new epoch, what it has not sent again yet
        self.complete = asyncio.Event()  # it has sent all its changes
        self.missed_epoch = 0  # something of this epoch is missing
        # What we have sent to it:
        self.our_epoch = 0
        self.next_number = 0
        self.sent = 0  # messages
        self.in_flight: deque[tuple[int, int]] = deque()  # by frame: `sent` behind it, bytes
        self.in_flight_bytes = 0
        self.changes_sent = 0
        # What we have to send to it:
        self.accounts: deque[AccountHub] | None = None  # whose changes it gets again; None: it has them
        self.changes: dict[FullKey, int] = {}  # only the newest value of each key
        self.changes_added = 0  # to those, ever
        self.outgoing: deque[PeerMessage] = deque()
        self.wakes: dict[int, tuple[int, int]] = {}  # by session: account and number
        self.owes_receipt = False  # it has to know how many of its messages are here
        self.owes_request = False  # it has to know that something of its epoch is missing
        # Who waits until it has applied so many changes; or, while it gets all again, until all are applied:
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._waiting_for_all: list[Callable[[], None]] = []

    def send_all_changes(self, epoch: int, accounts: Iterable[AccountHub]) -> None:
        """Begins a new epoch."""
        self.our_epoch, self.next_number = epoch, 0
        self.accounts = deque(accounts)
        self.changes.clear()
        self.changes_sent = self.changes_added
        self._waiting_for_all += [applied for _, applied in self._waiting]
        self._waiting.clear()
        self.in_flight.clear()
        self.in_flight_bytes = 0
        self._due()

    def send_change(self, key: FullKey, value: int) -> None:
        if key not in self.changes:
            self.changes_added += 1
        self.changes[key] = value
        self._due()

    def send_wake(self, user: int, session: int, number: int) -> None:
        """There is a new message in the queue of a durable session, whose client is connected to the peer."""
        self.wakes[session] = user, number
        self._due()

    def when_applied(self, applied: Callable[[], None]) -> None:
        """Calls `applied` once the peer has applied all changes so far, in front of the messages that the
        peer has routed by them."""
        self.send_change(CONFIRM, 0)
        if self.accounts is None:
            self._waiting.append((self.changes_added, applied))
        else:
            self._waiting_for_all.append(applied)

    def changes_applied(self, epoch: int, changes: int) -> None:
        """The peer says so."""
        if epoch == self.our_epoch:
            while self._waiting and self._waiting[0][0] <= changes:
                self._waiting.popleft()[1]()

    def messages_received(self, count: int) -> None:
        """The peer says so."""
        while self.in_flight and self.in_flight[0][0] <= count:
            self.in_flight_bytes -= self.in_flight.popleft()[1]
        if self.outgoing:
            self._due()

    def stop_waiting(self) -> None:
        """The peer is gone or can't be reached, so nobody waits for it."""
        for applied in (*self._waiting_for_all, *(applied for _, applied in self._waiting)):
            applied()
        self._waiting.clear()
        self._waiting_for_all.clear()

    def next_frame(
        self, sender: int, connection: int, local_subscriptions: Callable[[AccountHub], LocalSubscriptions]
    ) -> Frame | None:
        while self.accounts and len(self.changes) < FRAME_CHANGES:
            account = self.accounts.popleft()
            for key, value in local_subscriptions(account).items():
                self.send_change((account.user, *key), value)
        if self.accounts is not None and not self.accounts:
            self.accounts = None
            self.send_change(ALL_SENT, 0)
            self._waiting.extend((self.changes_added, applied) for applied in self._waiting_for_all)
            self._waiting_for_all.clear()
        can_send_messages = self.outgoing and self.in_flight_bytes < MAX_IN_FLIGHT_BYTES
        owes = self.owes_request or self.owes_receipt
        if not (can_send_messages or self.changes or self.wakes or owes):
            return None
        changes: list[tuple[Any, ...]] = []
        size_of_changes = 0
        for key in list(islice(self.changes, FRAME_CHANGES)):
            if size_of_changes >= FRAME_BYTES // FRAMES:
                break
            changes.append((*key, self.changes.pop(key)))
            size_of_changes += sum(4 * len(part) for part in key if isinstance(part, str))
        self.changes_sent += len(changes)
        outgoing: list[PeerMessage] = []
        size = 0
        while can_send_messages and self.outgoing and size < FRAME_BYTES:
            outgoing.append(self.outgoing.popleft())
            size += outgoing[-1].size
        sessions = list(islice(self.wakes, FRAME_CHANGES))
        header = FrameHeader(
            VERSION,
            sender,
            connection,
            self.our_epoch,
            self.next_number,
            self.sent,
            self.changes_sent,
            max(self.received, 0),
            self.missed_epoch,
            changes,
            wakes=[(session, *self.wakes.pop(session)) for session in sessions],
        )
        messages = sum(each.user > 0 for each in outgoing)
        self.next_number += 1
        self.sent += messages
        self.owes_request = self.owes_receipt = False
        if messages:
            self.in_flight.append((self.sent, size))
            self.in_flight_bytes += size
        data = b"".join((msgpack.packb(header), *(each.packed for each in outgoing)))
        return Frame(self, data, outgoing, messages)
