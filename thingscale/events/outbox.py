"""The deliveries that a batch of the worker owes: one for each receiver. They are written at its end, all at
once.

What fires or ends on several devices within seconds is one message for people: it waits a moment, and what
comes meanwhile is put into its `also`. Webhooks get each by itself, at once.

What an account may be owed is bounded: one with many receivers would fill the table faster than anybody can
send, and keep the worker from others. What is over is counted, and each receiver is told how many it did not
get: half a minute after the first, and then once an hour.
"""

import json
import time
import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import psycopg
from psycopg.types.json import Json

from thingscale.events import figures, messages
from thingscale.events.budget import Budget
from thingscale.events.figures import Counted
from thingscale.events.models import Delivery, Event
from thingscale.lib.ids import UserPk

MAX_RECEIVER = 300  # characters
TOGETHER = timedelta(seconds=3)  # that a message for people waits for others of its event
ALSO = 100  # of those, in one message; more are counted
OWED = Budget(30_000, 300)  # deliveries of an account
KEPT = 10_000  # of them for what begins and ends
SAY_AFTER = timedelta(seconds=30)  # that matches are left out
SAY_EVERY = timedelta(hours=1)

About, Status, Transport = Delivery.About, Delivery.Status, Delivery.Transport
COLUMNS = (
    *("id", "user_id", "event_id", "incident_id", "contact_point_id", "transport", "about", "receiver"),
    *("body", "status", "created_at", "due_at", "done_at", "answer"),
)
_TRANSPORT, _STATUS = COLUMNS.index("transport"), COLUMNS.index("status")
# One that is being sent is claimed, and locked for that.
_JOINED = """SELECT id, body FROM events_delivery WHERE status = 'waiting' AND due_at > %s AND created_at > %s
    AND event_id = %s AND transport = %s AND receiver = %s AND about = %s AND tries = 0
    AND claimed_until IS NULL
ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED"""
_ADD_LEFT_OUT = """UPDATE events_delivery d
SET body = jsonb_set(d.body, '{left_out}', to_jsonb((d.body ->> 'left_out')::bigint + new.count))
FROM unnest(%s::bigint[], %s::text[], %s::bigint[]) AS new (user_id, receiver, count)
CROSS JOIN LATERAL (SELECT id FROM events_delivery w WHERE w.user_id = new.user_id
    AND w.receiver = new.receiver AND w.about = 'brake' AND w.status = 'waiting' AND w.body ? 'left_out'
    AND w.tries = 0 AND w.claimed_until IS NULL ORDER BY w.created_at LIMIT 1) waiting
WHERE d.id = waiting.id AND d.status = 'waiting' AND d.claimed_until IS NULL
RETURNING d.user_id, d.receiver"""
_SAID_LAST = """SELECT new.user_id, new.receiver, (SELECT max(due_at) FROM events_delivery d
    WHERE d.user_id = new.user_id AND d.receiver = new.receiver AND d.about = 'brake' AND d.body ? 'left_out')
FROM unnest(%s::bigint[], %s::text[]) AS new (user_id, receiver)"""


class Owner(Protocol):
    """What the receivers of an event depend on."""

    pk: int
    user: UserPk
    notify_type: str
    post_url: str
    email1: str
    email2: str
    contact_points: list[int]

    @property
    def is_ours(self) -> bool: ...


class Receiver(NamedTuple):
    transport: Delivery.Transport
    name: str
    contact_point: int | None = None
    missing: str = ""  # why nothing can be sent

    @property
    def is_person(self) -> bool:
        return self.transport != Transport.HTTP


def mail_addresses(email1: str, email2: str) -> list[str]:
    """Of an account, for its events."""
    return list(dict.fromkeys(address for address in (email1, email2) if address))


def webhook_host(post_url: str) -> str:
    """As the log shows it: the rest of the address may be secret."""
    return urlsplit(post_url).netloc.rpartition("@")[2]


def receivers(event: Owner) -> list[Receiver]:
    found: list[Receiver] = []
    if event.notify_type == Event.Notify.EMAIL:
        addresses = mail_addresses(event.email1, event.email2)
        missing = "" if addresses else "The account has no email1 and no email2."
        found = [Receiver(Transport.EMAIL, address, missing=missing) for address in addresses or [""]]
    elif event.notify_type == Event.Notify.HTTP:
        host = webhook_host(event.post_url)
        found = [Receiver(Transport.HTTP, host, missing="" if host else "The event has no post_url.")]
    return found + [Receiver(Transport.CONTACT, f"contact:{pk}", pk) for pk in event.contact_points]


@dataclass
class Group:
    """Messages to one receiver of an event that are about the same."""

    event: Owner
    receiver: Receiver
    about: Delivery.About
    bodies: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class LeftOut:
    """What a receiver does not get."""

    event: Owner  # the first one, as is `body`
    receiver: Receiver
    body: dict[str, Any]
    count: int = 0


class Outbox:
    def __init__(self, connection: psycopg.Connection, now: datetime) -> None:
        self._connection = connection
        self._now = now
        self._began = time.monotonic()
        self._rows: list[tuple[Any, ...]] = []
        self._taken: Counter[UserPk] = Counter()  # of OWED
        self._left_out: dict[tuple[UserPk, str], LeftOut] = {}  # by account, and by name of the receiver
        self._counted: Counted = Counter()
        self._groups: dict[tuple[int, Receiver, str], Group] = {}

    @property
    def size(self) -> int:
        """Deliveries."""
        return len(self._rows) + len(self._groups)

    def owe(self, event: Owner, about: Delivery.About, body: dict[str, Any], left_out: str = "") -> None:
        """To all receivers of the event. `left_out`: why it is recorded, and not sent."""
        for receiver in receivers(event):
            if about == About.RESOLVED and not receiver.is_person and not event.is_ours:
                continue  # the original told webhooks of matches only
            reason = left_out or receiver.missing
            if receiver.is_person and about in {About.FIRING, About.RESOLVED} and not reason:
                key = event.pk, receiver, about
                group = self._groups.setdefault(key, Group(event, receiver, about))
                group.bodies.append(body)
            else:
                self._add(Group(event, receiver, about), body, self._now, reason)

    def say_left_out(self, event: Owner, body: dict[str, Any], count: int) -> None:
        """That so many matches are not looked at, since the account has too many."""
        for receiver in receivers(event):
            self._leave_out(event, receiver, body, count)

    def save(self) -> Counted:
        """Returns those that are recorded, and not sent."""
        for group in self._groups.values():
            self._save_group(group)
        self._say_left_out()
        copy_rows(self._connection, "events_delivery", COLUMNS, self._rows)
        return self._counted + Counter(
            figures.of_delivery(row[_TRANSPORT], Status.LEFT_OUT)
            for row in self._rows
            if row[_STATUS] == Status.LEFT_OUT
        )

    def settle(self) -> None:
        """After the commit."""
        for user, count in self._taken.items():
            OWED.take(user, count, time.monotonic())

    def _afford(self, user: UserPk, about: Delivery.About) -> bool:
        kept = KEPT if about == About.MATCH else 0
        if OWED.left(user, self._began) - self._taken[user] <= kept:
            return False
        self._taken[user] += 1
        return True

    def _leave_out(self, event: Owner, receiver: Receiver, body: dict[str, Any], count: int) -> None:
        if receiver.missing:
            return
        key = event.user, receiver.name[:MAX_RECEIVER]
        it = self._left_out.setdefault(key, LeftOut(event, receiver, body))
        it.count += count

    def _say_left_out(self) -> None:
        """In the message that is to say it next, if there is one."""
        if not self._left_out:
            return
        users, names = map(list, zip(*self._left_out, strict=True))
        counts = [each.count for each in self._left_out.values()]
        added = set(self._connection.execute(_ADD_LEFT_OUT, [users, names, counts]).fetchall())
        missing = self._left_out.keys() - added
        if not missing:
            return
        columns = [list(column) for column in zip(*missing, strict=True)]
        for user, name, last in self._connection.execute(_SAID_LAST, columns).fetchall():
            due_at = self._now + SAY_AFTER
            it = self._left_out[user, name]
            body = messages.left_out(it.body, it.count)
            group = Group(it.event, it.receiver, About.BRAKE)
            self._add(group, body, max(due_at, last + SAY_EVERY) if last else due_at)

    def _save_group(self, group: Group) -> None:
        receiver = group.receiver
        waiting = self._connection.execute(
            _JOINED,
            [
                *(self._now, self._now - TOGETHER, group.event.pk),
                *(receiver.transport, receiver.name, group.about),
            ],
        ).fetchall()
        if waiting:
            ((key, body),) = waiting
            others = group.bodies
        else:
            body, *others = group.bodies
        if others:
            also = [*body.get("also", ()), *map(_short, others)]
            body = body | {"also": also[:ALSO], "more": body.get("more", 0) + len(also[ALSO:])}
        if waiting:
            self._connection.execute("UPDATE events_delivery SET body = %s WHERE id = %s", [Json(body), key])
        else:
            self._add(group, body, self._now + TOGETHER, count=len(group.bodies))

    def _add(
        self, to: Group, body: dict[str, Any], due_at: datetime, left_out: str = "", count: int = 1
    ) -> None:
        """`left_out`: why it is recorded, and not sent; `count`: how many it says."""
        key, event, receiver = uuid.uuid4(), to.event, to.receiver
        if to.about != About.BRAKE and not self._afford(event.user, to.about):
            if not left_out:
                self._leave_out(event, receiver, body, count)
                self._counted[figures.of_delivery(receiver.transport, Status.LEFT_OUT)] += 1
            return
        self._rows.append(
            (
                *(key, event.user, event.pk, body["incident"], receiver.contact_point, receiver.transport),
                *(to.about, receiver.name[:MAX_RECEIVER]),
                json.dumps(body | {"delivery_id": str(key)}, ensure_ascii=False),
                Status.LEFT_OUT if left_out else Status.WAITING,
                *(self._now, due_at, self._now if left_out else None, left_out[:MAX_RECEIVER]),
            )
        )


def _short(body: dict[str, Any]) -> dict[str, Any]:
    """What differs between messages of one event."""
    return {name: body[name] for name in ("device_id", "tag", "current", "at", "status", "incident")}


def copy_rows(
    connection: psycopg.Connection, table: str, columns: Sequence[str], rows: Collection[Sequence[Any]]
) -> None:
    """The quickest way to write many rows."""
    if not rows:
        return
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(statement) as copying:
        for row in rows:
            copying.write_row(row)
