"""What a batch takes to be stored, by its size: in steps with COPY, and in one statement.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/batches.py --runs 1

One writer, as in the gateway, commits one batch after the other. MAX_STATEMENT_ROWS in
thingscale/streams/writer.py says which are stored in one statement.
"""

import argparse
import time
import uuid
from collections.abc import Callable

import psycopg
from common import record
from database import checkpoint, prepare
from load import PAYLOAD

from ingest.service import connect
from thingscale.lib.clock import now_us
from thingscale.lib.ids import ChannelPk, DevicePk
from thingscale.streams import writer
from thingscale.streams.exactly_once import commit_log
from thingscale.streams.models import Channel

SIZES = (1, 30, 200, 1000)
CHANNELS = 50
WARM_UP = 10  # batches


class Writer:
    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._own = uuid.uuid4()
        self._number = 0
        commit_log.register(connection, self._own)

    def in_steps(self, rows: list[writer.Row]) -> None:
        self._number += 1
        with self._connection.transaction(), self._connection.cursor() as cursor:
            commit_log.record_batch(cursor, self._own, self._number)
            writer.write(cursor, rows)

    def in_one_statement(self, rows: list[writer.Row]) -> None:
        self._number += 1
        writer.write_in_one_statement(self._connection, rows, self._own, self._number, 0)


def rows(channels: list[int], size: int) -> list[writer.Row]:
    now = now_us()
    return [
        writer.Row(ChannelPk(channels[place % len(channels)]), now + place, DevicePk(1), None, PAYLOAD, place)
        for place in range(size)
    ]


def milliseconds(write: Callable[[list[writer.Row]], None], batches: list[list[writer.Row]]) -> float:
    """A batch."""
    for batch in batches[:WARM_UP]:
        write(batch)
    checkpoint()
    started = time.perf_counter()
    for batch in batches:
        write(batch)
    return (time.perf_counter() - started) / len(batches) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batches", type=int, default=500)
    options = parser.parse_args()
    user = prepare()
    channels = list(Channel.objects.filter(user=user, number__lt=CHANNELS).values_list("pk", flat=True))
    with connect() as connection:
        writer.Partitions().ensure(connection, [now_us()], now_us())
        ours = Writer(connection)
        for size in SIZES:
            batches = [rows(channels, size) for _ in range(options.batches)]
            pairs = [
                (milliseconds(ours.in_steps, batches), milliseconds(ours.in_one_statement, batches))
                for _ in range(options.runs)
            ]
            steps, statement = zip(*pairs, strict=True)
            record(f"a batch of {size:,}: in steps", steps, "ms")
            record(f"a batch of {size:,}: in one statement", statement, "ms", ceiling=steps, of="in steps")


if __name__ == "__main__":
    main()
