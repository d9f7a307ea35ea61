"""What a chart costs, with and without rollups, and what rollups cost those who write.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/charts.py --datapoints 500000

5,000,000 datapoints of two numbers over 1,000 channels and 30 days, 500,000 of them of one busy channel. The
bare query is what raw SQL can do at best: two known keys, no times.
"""

import argparse
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from common import record
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone
from pages import prepare

from thingscale.accounts.actions import create_account
from thingscale.accounts.models import User
from thingscale.lib.clock import now_us
from thingscale.lib.ids import ChannelPk
from thingscale.streams import rollup_invalidation, rollups, writer
from thingscale.streams.charts import chart
from thingscale.streams.models import Channel
from thingscale.streams.queries import Selection

PIXELS = 1000
BATCH = 1000
BUSY, USUAL = 0, 5
_BARE = """
SELECT floor(date_part('epoch', at) / 2592), min(temp), max(temp), min(humid), max(humid)
FROM (
    SELECT at, (value ->> 'temp')::float8 AS temp, (value ->> 'humid')::float8 AS humid
    FROM datapoint WHERE channel = %s AND at >= now() - interval '30 days'
    OFFSET 0
) AS known
GROUP BY 1
"""


def main() -> None:
    options = arguments()
    call_command("migrate", verbosity=0)
    user = create_account(f"bench-{time.time_ns()}@example.com", "correct horse battery")
    prepare(user, options.datapoints)
    show("30 days of the busy channel: bare query", options.runs, lambda: bare(channel(user, BUSY)))
    charts(user, options.runs, "no rollups")
    roll_up()
    charts(user, options.runs, "rollups")
    writes(channel(user, USUAL), options.runs)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--datapoints", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=7)
    return parser.parse_args()


def channel(user: User, number: int) -> ChannelPk:
    return Channel.objects.for_account(user).get(number=number).id


def bare(key: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_BARE, [key])
        cursor.fetchall()


def charts(user: User, runs: int, how: str) -> None:
    for name, number, days in (
        ("usual", USUAL, 30),
        ("busy", BUSY, 1),
        ("busy", BUSY, 7),
        ("busy", BUSY, 30),
    ):
        now = timezone.now()
        selection = Selection(channel(user, number), "UTC", now - timedelta(days=days), now)
        show(f"{days}-day chart, {name} channel: {how}", runs, partial(drawn, selection))


def drawn(selection: Selection) -> str:
    return chart(selection, PIXELS).json()


def roll_up() -> None:
    started = time.perf_counter()
    hours = rollups.roll_up(3600)
    seconds = time.perf_counter() - started
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE streams_rollup, streams_stalehour")
        cursor.execute("SELECT pg_total_relation_size('streams_rollup')")
        size = cursor.fetchone()[0]
    record(f"{hours:,} hours rolled up, {size / 1e6:.0f} MB", [hours / seconds])


def writes(key: int, runs: int) -> None:
    """A batch as ingest has it, and the part of it that looks for late datapoints."""
    rows = [
        writer.Row(ChannelPk(key), now_us() + n, None, None, b'{"temp":20.5,"humid":50}', n)
        for n in range(BATCH)
    ]

    def write() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            writer.write(cursor.cursor, rows)

    with connection.cursor() as cursor:
        whole = times(runs * 10, write)
        looked = times(runs * 10, lambda: rollup_invalidation.invalidate_late(cursor.cursor, rows))
    record(f"a batch of {BATCH:,}: stored", whole, "ms")
    record(f"a batch of {BATCH:,}: looked through for late ones", looked, "ms", ceiling=whole, of="storing")


def show(name: str, runs: int, action: Callable[[], object]) -> None:
    record(name, times(runs, action), "ms")


def times(runs: int, action: Callable[[], object]) -> list[float]:
    """Milliseconds of each."""
    found = []
    for _ in range(runs):
        started = time.perf_counter()
        action()
        found.append(1000 * (time.perf_counter() - started))
    return found


if __name__ == "__main__":
    main()
