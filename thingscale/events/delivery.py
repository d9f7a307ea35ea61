"""Sends the notifications that are owed, the rows of Delivery that wait: each at least once, with the same
delivery_id each time.

Every Celery worker has one thread that claims rows for a while, and notes what became of them; other threads
send. Whoever is killed in between has sent some that are not noted: these are sent again once it is seen that
the worker is dead (claims.py), or else once the claim is over.
"""

import contextlib
import json
import logging
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any

import psycopg
from django.conf import settings
from psycopg.rows import class_row

from thingscale.background.watched import WatchedThread
from thingscale.events import figures, pace, sending, words
from thingscale.events.actions import new_secret
from thingscale.events.claims import Claims
from thingscale.events.figures import Counted
from thingscale.events.models import Delivery
from thingscale.events.pace import Pace, Plan
from thingscale.events.sending import CLAIM_SECONDS, Claimed, Done, Job, Note
from thingscale.events.shares import THREADS, ReceiverKey, Shares, Wanted
from thingscale.lib.ids import UserPk
from thingscale.processes import own_connection
from thingscale.processes.own_connection import UNWELL
from thingscale.processes.wake_up import DELIVERIES, Sleeper

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks, if nobody wakes it before
LOOKING_PART = 0.5  # of its time it spends with looking, at most
REST_SECONDS = 0.25  # between two looks, at most: after a long one, others have waited already
KEEP_HOUSE_SECONDS = 5.0
STOP_SECONDS = 3.0  # for what is being sent
IDLE_SECONDS = 30.0  # then a thread ends
GATHERED = 5_000  # rows of messages for people, of one look, at most
GATHERED_EACH = 100  # of those, for each receiver, at least
TESTS = 10  # at once
SEE_LOG = "The console shows all of them."
HOUSE_LOCK = 7_472  # advisory

_FREE = "d.due_at <= now() AND (d.claimed_until IS NULL OR d.claimed_until < now())"

# Who has something due. It goes from receiver to receiver in the index, however many rows each of them has.
# There is no index of `due_at` alone: PostgreSQL might go through everything that is due for each of them.
_DUE = f"""WITH RECURSIVE receiver AS (
    (SELECT user_id, receiver FROM events_delivery WHERE status = 'waiting'
    ORDER BY user_id, receiver LIMIT 1)
    UNION ALL
    SELECT next.user_id, next.receiver FROM receiver last CROSS JOIN LATERAL (
        SELECT user_id, receiver FROM events_delivery
        WHERE status = 'waiting' AND (user_id, receiver) > (last.user_id, last.receiver)
        ORDER BY user_id, receiver LIMIT 1) next)
SELECT receiver.user_id, receiver.receiver, due.transport FROM receiver CROSS JOIN LATERAL (
    SELECT transport, due_at FROM events_delivery d
    WHERE status = 'waiting' AND d.user_id = receiver.user_id AND d.receiver = receiver.receiver
    AND about <> 'test' AND {_FREE} ORDER BY due_at LIMIT 1) due
ORDER BY due.due_at"""  # noqa: S608

_CLAIMED = """UPDATE events_delivery d
SET claimed_until = now() + make_interval(secs => %s), claimed_by = %s
FROM found WHERE d.id = found.id
RETURNING d.id, d.user_id AS "user", d.receiver, d.transport, d.about, d.tries,
    extract(epoch FROM now() - d.created_at)::float AS age"""
_CLAIM = f"""WITH found AS (
    SELECT due.id FROM unnest(%s::bigint[], %s::text[], %s::int[]) AS wanted (user_id, receiver, most)
    CROSS JOIN LATERAL (SELECT d.id FROM events_delivery d
        WHERE status = 'waiting' AND d.user_id = wanted.user_id AND d.receiver = wanted.receiver
        AND about <> 'test' AND {_FREE} ORDER BY due_at LIMIT wanted.most FOR UPDATE SKIP LOCKED) due)
{_CLAIMED}"""  # noqa: S608
_CLAIM_TESTS = f"""WITH found AS (SELECT id FROM events_delivery d
    WHERE status = 'waiting' AND about = 'test' AND {_FREE}
    ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED)
{_CLAIMED}"""  # noqa: S608

_DETAILS = """SELECT d.id, d.body::text, e.post_url, e.secret_ciphertext, p.ciphertext, p.enabled,
    u.is_active AND u.closed_at IS NULL
FROM events_delivery d JOIN accounts_user u ON u.id = d.user_id
LEFT JOIN events_event e ON e.id = d.event_id
LEFT JOIN events_contactpoint p ON p.id = d.contact_point_id
WHERE d.id = ANY (%s)"""

_NOTE = """UPDATE events_delivery d SET status = note.status, answer = note.answer,
    claimed_until = NULL, claimed_by = NULL, tries = d.tries + note.tries,
    due_at = coalesce(now() + make_interval(secs => note.delay), d.due_at),
    done_at = CASE WHEN note.status = 'waiting' THEN NULL ELSE now() END
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::float[], %s::int[])
    AS note (id, status, answer, delay, tries)
WHERE d.id = note.id AND d.status = 'waiting'
RETURNING d.transport, d.status, note.tries, extract(epoch FROM now() - d.due_at)::float"""

_LEAVE_OUT = """UPDATE events_delivery SET status = 'left out', answer = %s, claimed_until = NULL,
    done_at = now() WHERE id = ANY (%s) AND status = 'waiting' RETURNING transport"""
_POSTPONE = """UPDATE events_delivery SET due_at = to_timestamp(%s), claimed_until = NULL, claimed_by = NULL
    WHERE id = ANY (%s)"""
_GIVE_UP = f"""UPDATE events_delivery d SET status = 'failed', done_at = now(),
    answer = left(trim('{sending.GIVEN_UP} ' || answer), 300)
WHERE id IN (SELECT id FROM events_delivery d WHERE status = 'waiting' AND {_FREE}
    AND created_at < now() - interval '24 hours' ORDER BY created_at LIMIT 10000 FOR UPDATE SKIP LOCKED)
RETURNING transport"""  # noqa: S608
_BRAKE = """INSERT INTO events_delivery (id, user_id, contact_point_id, transport, about, receiver, body)
VALUES (%s, %s, %s, %s, 'brake', %s, %s)"""


class Deliveries:
    def __init__(self) -> None:
        self._thread = WatchedThread("deliveries", self._run)
        self._ear = WatchedThread("deliveries, wake-up", self._listen)
        self._stopping = self._thread.stopping
        self._wake = threading.Event()
        self._shares = Shares()
        self._claims = Claims()
        self._senders = Senders(self._wake)
        self._unnoted: list[Done] = []
        self._counted: Counted = Counter()
        self._housekeeping_at = 0.0
        self._away = False  # the database, as was logged

    def start(self) -> None:
        self._thread.start()
        self._ear.start()

    def stop(self, seconds: float = STOP_SECONDS + 1) -> None:
        self._stopping.set()
        self._ear.stopping.set()
        self._wake.set()
        self._thread.stop(seconds)
        self._ear.stop(LOOK_SECONDS)

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    def _listen(self) -> None:
        with contextlib.closing(Sleeper(DELIVERIES, self._ear.stopping)) as sleeper:
            while not self._ear.stopping.is_set():
                sleeper.listen(LOOK_SECONDS)
                self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with own_connection.connect("thingscale-deliveries") as connection:
                    self._work(connection)
            except UNWELL as error:
                if not self._away:
                    log.warning("Notifications wait: the database is away (%s)", type(error).__name__)
                self._away = True
                self._stopping.wait(LOOK_SECONDS)

    def _work(self, connection: psycopg.Connection) -> None:
        self._claims.connected()
        while not self._stopping.is_set():
            self._wake.clear()
            began = time.monotonic()
            self._note(connection)
            self._claims.look(connection)
            self._claim(connection)
            if began >= self._housekeeping_at:
                self._counted += keep_house(connection)
                self._housekeeping_at = time.monotonic() + KEEP_HOUSE_SECONDS
            figures.count(connection, self._counted)
            self._counted.clear()
            if self._away:
                log.info("Notifications go on: the database is back")
                self._away = False
            self._stopping.wait(min((time.monotonic() - began) * (1 / LOOKING_PART - 1), REST_SECONDS))
            self._wake.wait(LOOK_SECONDS)
        self._senders.stop()
        until = time.monotonic() + STOP_SECONDS
        while self._shares.in_flight and (left := until - time.monotonic()) > 0:
            self._wake.wait(left)
            self._wake.clear()
            self._note(connection)

    def _note(self, connection: psycopg.Connection) -> None:
        for done in self._senders.results():
            wanted = done.job.wanted
            self._shares.took(wanted, done.seconds)
            self._shares.ended(wanted, done.well, time.monotonic(), done.pause, done.server_well)
            self._unnoted.append(done)
        if not self._unnoted:
            return
        with connection.transaction():
            notes = [note for done in self._unnoted for note in done.notes]
            columns = [list(column) for column in zip(*notes, strict=True)] or [[], [], [], [], []]
            # The driver takes no list in which some are whole numbers and others are not.
            columns[3] = [None if delay is None else float(delay) for delay in columns[3]]
            noted = connection.execute(_NOTE, columns).fetchall()
            sent: Counter[ReceiverKey] = Counter()
            for done in self._unnoted:
                if done.job.wanted.for_people:
                    sent[done.job.wanted.receiver] += done.messages
            paces = lock_paces(connection, [receiver for receiver, messages in sent.items() if messages])
            now = _now(connection)
            for receiver, its in paces.items():
                its.sent += [now] * sent[receiver]
            save_paces(connection, paces)
        self._unnoted = []
        for transport, status, tries, age in noted:
            if status != Delivery.Status.WAITING:
                self._counted[figures.of_delivery(transport, status)] += 1
            elif tries:
                self._counted[figures.of_delivery(transport, figures.RETRIED)] += 1
            if status == Delivery.Status.SENT and age > figures.LATE_SECONDS:
                self._counted[figures.LATE, ""] += 1

    def _claim(self, connection: psycopg.Connection) -> None:
        tests = min(TESTS, THREADS - self._shares.in_flight)
        jobs = [
            Job(Wanted(ReceiverKey(UserPk(row.user), "a test"), False, False), [[row]])
            for row in _claimed(connection, _CLAIM_TESTS, [tests, CLAIM_SECONDS, self._claims.worker])
        ]
        due = [
            Wanted(
                ReceiverKey(user, name),
                transport == Delivery.Transport.EMAIL,
                transport != Delivery.Transport.HTTP,
            )
            for user, name, transport in connection.execute(_DUE)
        ]
        chosen = self._shares.choose(due, time.monotonic())
        gathered = max(GATHERED // max(sum(wanted.for_people for wanted, _ in chosen), 1), GATHERED_EACH)
        with connection.transaction():
            arguments = [
                [wanted.receiver.user for wanted, _ in chosen],
                [wanted.receiver.name for wanted, _ in chosen],
                [
                    gathered if wanted.for_people else most * self._shares.in_a_row(wanted)
                    for wanted, most in chosen
                ],
                *(CLAIM_SECONDS, self._claims.worker),
            ]
            found: dict[ReceiverKey, list[Claimed]] = defaultdict(list)
            for row in _claimed(connection, _CLAIM, arguments) if chosen else ():
                found[ReceiverKey(UserPk(row.user), row.receiver)].append(row)
            people = [wanted for wanted, _ in chosen if wanted.for_people and wanted.receiver in found]
            jobs += self._for_people(connection, people, found)
            for wanted, most in chosen:
                rows = [] if wanted.for_people else found.get(wanted.receiver, [])
                # Few of them are sent at once, many in a row as well.
                jobs += [
                    Job(wanted, [[row] for row in rows[place::most]]) for place in range(min(most, len(rows)))
                ]
            _load_details(connection, jobs)
        for job in jobs:
            self._shares.began(job.wanted)
            self._senders.send(job)

    def _for_people(
        self, connection: psycopg.Connection, people: list[Wanted], found: dict[ReceiverKey, list[Claimed]]
    ) -> list[Job]:
        paces = lock_paces(connection, [wanted.receiver for wanted in people])
        jobs, now = [], _now(connection)
        for wanted in people:
            its, rows = paces[wanted.receiver], sorted(found[wanted.receiver], key=lambda row: -row.age)
            brakes = [row for row in rows if row.about == Delivery.About.BRAKE]  # they are few
            plan = pace.plan(its, [row for row in rows if row not in brakes], now)
            plan.messages += [[row] for row in brakes]
            self._counted += _follow(connection, wanted, its, plan)
            if plan.messages:
                jobs.append(Job(wanted, plan.messages))
        save_paces(connection, paces)
        return jobs


def _now(connection: psycopg.Connection) -> float:
    """By the clock of all processes."""
    ((now,),) = connection.execute("SELECT extract(epoch FROM now())::float").fetchall()
    return float(now)


def _follow(connection: psycopg.Connection, wanted: Wanted, its: Pace, plan: Plan[Claimed]) -> Counted:
    """What is not sent now. Returns what is left out."""
    if plan.later:
        connection.execute(_POSTPONE, [its.digest_at, [row.id for row in plan.later]])
    if plan.left_out:
        until = f"{datetime.fromtimestamp(its.braked_until, UTC):%H:%M} UTC"
        said = f"More than {pace.MAX_AN_HOUR} messages in an hour: none are sent until {until}."
        counted = _leave_out(connection, said, [row.id for row in plan.left_out])
        if plan.brake:
            row = plan.left_out[0]
            point = (
                int(row.receiver.partition(":")[2]) if row.transport == Delivery.Transport.CONTACT else None
            )
            body = {"status": f"{said} {SEE_LOG}", "limit": "messages"}
            _owe_brake(connection, wanted.receiver, row.transport, point, body)
        return counted
    return Counter()


def _leave_out(connection: psycopg.Connection, said: str, deliveries: list[uuid.UUID]) -> Counted:
    found = connection.execute(_LEAVE_OUT, [said, deliveries])
    return Counter(figures.of_delivery(transport, Delivery.Status.LEFT_OUT) for (transport,) in found)


def _owe_brake(
    connection: psycopg.Connection,
    receiver: ReceiverKey,
    transport: str,
    contact_point: int | None,
    said: dict[str, str],
) -> None:
    key = uuid.uuid4()
    body = json.dumps(said | {"delivery_id": str(key)})
    connection.execute(_BRAKE, [key, receiver.user, contact_point, transport, receiver.name, body])


def _claimed(connection: psycopg.Connection, statement: str, arguments: list[Any]) -> list[Claimed]:
    with connection.cursor(row_factory=class_row(Claimed)) as cursor:
        return cursor.execute(statement, arguments).fetchall()


def _load_details(connection: psycopg.Connection, jobs: list[Job]) -> None:
    rows = {row.id: row for job in jobs for message in job.messages for row in message[: words.LISTED]}
    if not rows:
        return
    for key, body, url, secret, contact, enabled, active in connection.execute(_DETAILS, [list(rows)]):
        row = rows[key]
        row.body, row.post_url, row.contact_enabled, row.account_active = body, url, enabled, active
        row.secret = bytes(secret) if secret is not None else None
        row.contact = bytes(contact) if contact is not None else None
        if row.transport == Delivery.Transport.HTTP and url is not None and secret is None:
            row.secret = _make_secret(connection, key)


def _make_secret(connection: psycopg.Connection, delivery: uuid.UUID) -> bytes:
    """Of an event that an earlier release made."""
    (made,) = connection.execute(
        """UPDATE events_event e SET secret_ciphertext = coalesce(secret_ciphertext, %s)
        FROM events_delivery d WHERE d.id = %s AND e.id = d.event_id RETURNING secret_ciphertext""",
        [new_secret(), delivery],
    ).fetchall()[0]
    return bytes(made)


def lock_paces(connection: psycopg.Connection, receivers: Iterable[ReceiverKey]) -> dict[ReceiverKey, Pace]:
    wanted = sorted(receivers)
    if not wanted:
        return {}
    columns = [list(column) for column in zip(*wanted, strict=True)]
    connection.execute(
        """INSERT INTO events_receiverpace (user_id, receiver)
        SELECT * FROM unnest(%s::bigint[], %s::text[]) ON CONFLICT DO NOTHING""",
        columns,
    )
    found = connection.execute(
        """SELECT user_id, receiver, sent, digest_at, braked_until FROM events_receiverpace
        WHERE (user_id, receiver) IN (SELECT * FROM unnest(%s::bigint[], %s::text[]))
        ORDER BY user_id, receiver FOR UPDATE""",
        columns,
    )
    return {ReceiverKey(user, name): Pace(*rest) for user, name, *rest in found}


def save_paces(connection: psycopg.Connection, paces: dict[ReceiverKey, Pace]) -> None:
    for receiver, its in paces.items():
        connection.execute(
            """UPDATE events_receiverpace SET sent = %s, digest_at = %s, braked_until = %s, changed_at = now()
            WHERE user_id = %s AND receiver = %s""",
            [json.dumps(its.sent), its.digest_at, its.braked_until, *receiver],
        )


def keep_house(connection: psycopg.Connection) -> Counted:
    """Gives up what is a day old, bounds how much an account has waiting, and forgets old paces. Returns what
    became of deliveries."""
    counted: Counted = Counter()
    with connection.transaction():
        (free,) = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [HOUSE_LOCK]).fetchall()[0]
        if not free:
            return counted
        for (transport,) in connection.execute(_GIVE_UP):
            counted[figures.of_delivery(transport, Delivery.Status.FAILED)] += 1
        for user, count in connection.execute(
            """SELECT user_id, count(*) FROM events_delivery WHERE status = 'waiting'
            GROUP BY user_id HAVING count(*) > %s""",
            [settings.MAX_DELIVERIES],
        ).fetchall():
            counted += _bound(connection, user, count - settings.MAX_DELIVERIES)
        connection.execute("DELETE FROM events_receiverpace WHERE changed_at < now() - interval '1 day'")
    return counted


def _bound(connection: psycopg.Connection, user: UserPk, too_many: int) -> Counted:
    """Leaves out the newest, and says so by mail, once an hour. Returns what is left out."""
    said = f"More than {settings.MAX_DELIVERIES:,} notifications wait to be sent: further ones are left out."
    newest = connection.execute(
        """SELECT id FROM events_delivery d WHERE user_id = %s AND status = 'waiting' AND about <> 'brake'
        AND (claimed_until IS NULL OR claimed_until < now()) ORDER BY created_at DESC LIMIT %s
        FOR UPDATE SKIP LOCKED""",
        [user, too_many],
    )
    counted = _leave_out(connection, said, [key for (key,) in newest])
    for (address,) in connection.execute(
        """SELECT coalesce(nullif(email1, ''), nullif(email2, ''), email) FROM accounts_user u
        WHERE id = %s AND NOT EXISTS (SELECT FROM events_delivery d WHERE d.user_id = u.id
        AND about = 'brake' AND body ->> 'limit' = 'waiting' AND created_at > now() - interval '1 hour')""",
        [user],
    ):
        body = {"status": f"{said} {SEE_LOG}", "limit": "waiting"}
        _owe_brake(connection, ReceiverKey(user, address), Delivery.Transport.EMAIL, None, body)
    return counted


class Senders:
    """Threads that send, as many as there are jobs."""

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._done: SimpleQueue[Done] = SimpleQueue()
        self._threads: list[WatchedThread] = []
        self._idle = 0
        self._lock = threading.Lock()

    def send(self, job: Job) -> None:
        """Shares have it that there are never more than THREADS at once."""
        with self._lock:
            self._jobs.put(job)
            self._threads = [thread for thread in self._threads if not thread.stopping.is_set()]
            if self._jobs.qsize() > self._idle and len(self._threads) < THREADS:
                thread = WatchedThread("notification", lambda: self._run(thread))
                self._threads.append(thread)
                thread.start()

    def results(self) -> Iterable[Done]:
        with contextlib.suppress(Empty):
            while True:
                yield self._done.get_nowait()

    def stop(self) -> None:
        """What has not begun is for others, at once."""
        with contextlib.suppress(Empty):
            while True:
                job = self._jobs.get_nowait()
                rows = [row for message in job.messages for row in message]
                notes = [Note(row.id, Delivery.Status.WAITING, delay=0.0, tries=0) for row in rows]
                self._done.put(Done(job, notes))
        for thread in self._threads:
            thread.stopping.set()

    def _run(self, thread: WatchedThread) -> None:
        while not thread.stopping.is_set():
            with self._lock:
                self._idle += 1
            job = None
            with contextlib.suppress(Empty):
                job = self._jobs.get(timeout=IDLE_SECONDS)
            with self._lock:
                self._idle -= 1
                if job is None and self._jobs.empty():
                    thread.stopping.set()
            if job:
                self._done.put(self._do(job))
                self._wake.set()

    def _do(self, job: Job) -> Done:
        try:
            return sending.do(job)
        except Exception:  # of ours: it is tried again when the claim is over
            log.exception("A notification can't be sent")
            return Done(job, well=False)
