"""Messages into a writer of our own, and what is in the tables afterwards."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection
from support import Account

from ingest.device_cache import DeviceCache
from ingest.message import Kind, Outcome, RawMessage, Reason, Status
from ingest.service import connect
from ingest.writer import QueueLimits, Submission, Writer
from thingscale.devices.models import Device, RejectedMessage
from thingscale.lib.clock import now_us

STORED = Outcome(Status.STORED)
DUPLICATE = Outcome(Status.DUPLICATE)
SECONDS = 60  # that an answer may take on a busy machine


def held(reason: Reason) -> Outcome:
    return Outcome(Status.HELD, reason)


def rejected(reason: Reason) -> Outcome:
    return Outcome(Status.REJECTED, reason)


def message(
    account: Account, payload: str | bytes = b"1", device_id: str = "d1", **fields: Any
) -> RawMessage:
    """Received now, as JSON, unless `fields` says otherwise."""
    text = payload.encode() if isinstance(payload, str) else payload
    given = {"tag": None, "kind": Kind.JSON, "received_at": now_us()} | fields
    return RawMessage(account.user.pk, device_id, payload=text, **given)


class Feed:
    """A writer with its device cache. A call sends messages as one submission and waits for the answers."""

    def __init__(self, messages: int, size: int) -> None:
        self.device_cache = DeviceCache()
        self.first_contacts: list[int] = []
        self.process = 0  # of PostgreSQL, behind the writer's newest connection
        self.greeting = ""  # SQL to begin a connection with
        self.writer = Writer(
            self._connect,
            self.device_cache,
            limits=QueueLimits(messages, size),
            first_contact=self.first_contacts.extend,
        )
        self.writer.start()

    def __call__(self, *messages: RawMessage) -> list[Outcome]:
        return self.send(*messages).result(SECONDS)

    def send(self, *messages: RawMessage) -> Future[list[Outcome]]:
        return self.submit(*messages)[0]

    def submit(self, *messages: RawMessage) -> tuple[Future[list[Outcome]], Submission]:
        answer: Future[list[Outcome]] = Future()
        return answer, self.writer.accept(messages, answer.set_result)

    def stop(self) -> bool:
        return self.writer.drain(SECONDS)

    def _connect(self) -> psycopg.Connection:
        opened = connect()
        self.process = opened.info.backend_pid
        if self.greeting:
            opened.execute(self.greeting)
        return opened


def held_values(device: Device) -> list[Any]:
    return list(device.held.order_by("id").values_list("value", flat=True))


def reasons(account: Account) -> list[str]:
    """Of the account's rejected messages, in order."""
    found = RejectedMessage.objects.for_account(account.user).order_by("id")
    return list(found.values_list("reason", flat=True))


def values(account: Account, channel: int = 0) -> list[str]:
    return [value for value, _ in account.stored(channel)]


def ask(sql: str, *parameters: Any) -> Any:
    """The first column of the first row, if there is one."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def terminate(process: int) -> None:
    ask("SELECT pg_terminate_backend(%s)", process)


def with_own_connection(work: Callable[[], None]) -> None:
    """In a thread: closes the connection that Django opened for it."""
    try:
        work()
    finally:
        connection.close()


@contextmanager
def another_transaction(sql: str, *parameters: Any) -> Iterator[psycopg.Connection]:
    """Somebody else's open transaction, in which the statement was executed."""
    with connect() as other, other.transaction():
        other.execute(sql, parameters)
        yield other


@contextmanager
def elsewhere() -> Iterator[psycopg.Connection]:
    """A connection to another database of the same server."""
    parameters = connection.get_connection_params()
    parameters = {name: parameters[name] for name in ("host", "port", "user") if name in parameters}
    with psycopg.connect(**parameters, dbname="postgres", autocommit=True) as other:
        yield other


@contextmanager
def database_away() -> Iterator[None]:
    """Ends every connection to the test database but Django's own, and lets none in meanwhile."""
    name, own = ask("SELECT current_database()"), ask("SELECT pg_backend_pid()")
    with elsewhere() as other:
        other.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND pid <> %s AND backend_type = 'client backend'",
                [name, own],
            )
            yield
        finally:
            other.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


Feeder = Callable[..., Feed]
