"""What every connector hands to the writer, and what it gets back."""

from enum import StrEnum
from typing import NamedTuple

from thingscale.lib.kinds import Kind
from thingscale.lib.points import Points
from thingscale.lib.reasons import Reason

__all__ = ["DUPLICATE", "FAILED", "STORED", "Kept", "Kind", "Outcome", "RawMessage", "Reason", "Status"]


Copy = tuple[int, int, tuple[int, ...]]  # session's key, options of its subscription, identifiers


class Kept(NamedTuple):
    """What is stored of an MQTT message beside its datapoint: for the retained message, and for the queues of
    durable sessions."""

    topic: str  # without the token
    qos: int
    retain: bool
    properties: bytes  # as PUBLISH has them, with their length
    copies: tuple[Copy, ...]  # for durable sessions
    expires_in: int | None  # seconds
    command: int  # what an app has published, or 0
    numbers: list[int]  # of the copies in the queues, once committed; 0: there was no room


class RawMessage(NamedTuple):
    user: int  # primary key
    device_id: str
    tag: str | None
    kind: Kind
    payload: bytes
    received_at: int  # microseconds since 1970 UTC
    dedupe: int | None = None  # negative under an Idempotency-Key (decision 0020); None: never sent again
    repeated: bool = False  # the sender says that it may have sent this before
    refused: Reason | None = None  # by the connector: to be recorded only
    source: str = ""  # the topic's tail, where it is not a known one
    connected_at: float = 0.0  # monotonic; 0: no connection, and if it is `repeated`, all its copies are
    kept: Kept | None = None
    confirmed_at: int = 0  # microseconds: its sender had an answer to all that it had sent until then
    points: Points | None = None  # of an intake, in place of the payload
    detail: str = ""  # why it was refused, in a sentence


class Status(StrEnum):
    STORED = "stored"
    DUPLICATE = "duplicate"
    HELD = "held"
    REJECTED = "rejected"
    FAILED = "failed"  # not stored, by the platform's fault: it is to be sent again, and nothing is recorded


class Outcome(NamedTuple):
    """What became of a message; committed, unless it failed. If the first message is held, a duplicate has
    the same reason."""

    status: Status
    reason: Reason | None = None
    detail: str = ""  # what is wrong with a payload, in a sentence

    @property
    def held(self) -> bool:
        """Now or before."""
        return self.reason is not None and self.status in {Status.HELD, Status.DUPLICATE}


STORED = Outcome(Status.STORED)
DUPLICATE = Outcome(Status.DUPLICATE)
FAILED = Outcome(Status.FAILED)
