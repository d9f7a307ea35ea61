"""What the gateway asks the database, and writes there, for the sessions of its clients. It goes with a
submission of messages, in the same transaction and order."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ingest.message import Copy
from thingscale.devices.mqtt_store.app_messages import PublishedMessage
from thingscale.devices.mqtt_store.queues import Progress, QueuedRow
from thingscale.devices.mqtt_store.retained import RetainedMessage
from thingscale.devices.mqtt_store.sessions import Disconnected, Open, Opened, WaitingWill
from thingscale.devices.mqtt_store.subscriptions import StoredSubscription

RETAINED_ROWS = 100  # of a RetainedPage, at most


class RetainedAsked(NamedTuple):
    """The retained messages for a new subscription. At a QoS above 0 a durable session gets them into its
    queue."""

    account: int
    filter: str
    after: str  # topic, or empty
    copy: Copy | None


class RetainedPage(NamedTuple):
    rows: Sequence[RetainedMessage] = ()
    first: int = 0  # number in the queue
    queued: int = 0  # how many there was room for in the queue, of those above QoS 0
    more: bool = False  # behind these


class Asked(NamedTuple):
    """Questions that are answered before the messages of the batch are written, in this order."""

    open: Sequence[Open] = ()
    unsubscribe: Sequence[tuple[int, str, str]] = ()  # session, group, filter
    subscribe: Sequence[tuple[int, StoredSubscription]] = ()  # session
    queues: Sequence[tuple[int, int]] = ()  # session, first number
    retained: Sequence["RetainedAsked"] = ()
    published: Sequence[int] | None = None  # new messages of apps, without these
    expire: bool = False  # the sessions that are over
    wills: Sequence[int] | None = None  # wills that are due, and those of these sessions, which end


class Found(NamedTuple):
    """The answers, each in the order of the questions."""

    opened: Sequence[Opened] = ()
    queues: Sequence[Sequence[QueuedRow]] = ()
    retained: Sequence[RetainedPage] = ()
    published: Sequence[PublishedMessage] = ()
    ended: Sequence[tuple[int, int]] = ()  # session, account
    wills: Sequence[WaitingWill] = ()
    next_will: float | None = None  # seconds until it is due; None: there is none


class Behind(NamedTuple):
    """What is written behind the messages of the batch."""

    progress: Sequence[Progress] = ()
    disconnected: Sequence[Disconnected] = ()
    published: Sequence[int] = ()  # messages of apps that are in the queues now
    results: Mapping[int, str] = {}  # of commands
    wills: Sequence[int] = ()  # sessions whose wills are published


class SessionWork:
    """The work for one submission. The writer adds what it has found."""

    __slots__ = ("asked", "behind", "failed", "found")

    def __init__(self, asked: Asked | None, behind: Behind | None) -> None:
        self.asked = asked
        self.behind = behind
        self.found: Found | None = None
        self.failed = False
