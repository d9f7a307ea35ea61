"""The account and the table that benchmarks write to, and raw COPY into a table like it: the ceiling."""

import random
import time
from collections.abc import Sequence

import psycopg
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from load import PAYLOAD, Target
from processes import HOST

from thingscale.accounts.actions import create_account
from thingscale.accounts.credentials import credentials
from thingscale.accounts.models import User
from thingscale.devices.models import Device
from thingscale.lib.clock import from_us, now_us
from thingscale.lib.ids import ChannelPk, DevicePk
from thingscale.streams import partitions, writer
from thingscale.streams.models import Channel

BATCH = 1000  # rows of a transaction of the ceiling
DEVICES = 1000


def prepare() -> User:
    """An account with a device and a channel for each connection."""
    call_command("migrate", verbosity=0)
    user = create_account(f"bench-{time.time_ns()}@example.com", "correct horse battery")
    Channel.objects.bulk_create(Channel(user=user, number=number) for number in range(DEVICES))
    channels = Channel.objects.filter(user=user).order_by("number")
    Device.objects.bulk_create(
        Device(user=user, device_id=f"bench-{channel.number}", mapped_channel=channel) for channel in channels
    )
    return user


def target(user: User, port: int) -> Target:
    shown = credentials(user)
    return Target(HOST, port, shown["user_id"], shown["device_token"])


def empty(table: str = "datapoint") -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {table}")
    checkpoint()


def checkpoint() -> None:
    """Files of WAL are there to be written again, as on a server that has been up for a while: to make a new
    one holds all commits up, each 16 MB, for some 15 ms."""
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")


def count(table: str = "datapoint", since: int = 0) -> int:
    """`since`: microseconds since 1970."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table} WHERE at >= %s", [from_us(since)])
        return int(cursor.fetchone()[0])


def arrivals() -> int:
    """Rows that have ever come in, also those not committed. Costs nothing, as counting does."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM datapoint_id")
        return int(cursor.fetchone()[0])


def backends() -> list[int]:
    """PostgreSQL's processes for all but this connection."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in cursor.fetchall()]


def connect() -> psycopg.Connection:
    """psycopg's own connection, past Django."""
    params = connection.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        params.pop(name, None)
    return psycopg.connect(**params, autocommit=True)


def make_like(raw: psycopg.Connection, table: str) -> None:
    """An empty table with the columns and the index of a partition of `datapoint`."""
    month = partitions.month_of(timezone.now())
    partitions.make(raw, month)
    raw.execute(f"DROP TABLE IF EXISTS {table}")
    raw.execute(
        f"CREATE TABLE {table} (LIKE {partitions.name_of(month)} INCLUDING DEFAULTS INCLUDING INDEXES)"
    )


def ceiling(user: User, channels: int, rows: int) -> float:
    """Rows a second that one connection COPYs, prebuilt and sorted, BATCH a transaction."""
    keys = list(Channel.objects.filter(user=user, number__lt=channels).values_list("pk", flat=True))
    batches = [copy_data(keys, batch) for batch in range(max(rows // BATCH, 1))]
    with connect() as raw:
        make_like(raw, "ceiling")
        checkpoint()
        started = time.perf_counter()
        for data in batches:
            with raw.cursor() as cursor, cursor.copy(writer.COPY.replace("datapoint", "ceiling", 1)) as copy:
                copy.write(data)
        seconds = time.perf_counter() - started
        raw.execute("DROP TABLE ceiling")
    return len(batches) * BATCH / seconds


def copy_data(keys: Sequence[int], batch: int) -> bytes:
    """A batch in PostgreSQL's binary form: rows of random channels, a microsecond apart."""
    start = now_us() + batch * BATCH
    rows = sorted(
        writer.Row(
            ChannelPk(random.choice(keys)),
            start + place,
            DevicePk(place),
            None,
            PAYLOAD,
            random.getrandbits(63),
        )
        for place in range(BATCH)
    )
    header, trailer = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"
    return header + b"".join(map(writer.encode, rows)) + trailer
