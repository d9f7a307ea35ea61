"""Whether the gateway keeps its rate when much is stored: an empty table, and one of 50,000,000 rows.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/stored_rows.py --runs 1 --rows 100000 --messages 20000

The rows belong to 1,000 channels, half of them in the current month and half in the five months before, and
came in the order of time. The empty table is measured before the full one and again after it, so that a
machine that gets slower meanwhile does not count. 50,000,000 rows take about 10 GB of disk.
"""

import argparse
from collections.abc import Sequence
from datetime import datetime, timedelta

from common import Bar, at_least, record_loads
from database import backends, connect, empty, prepare, target
from django.utils import timezone
from load import PAYLOAD, Load, Target
from measuring import Measured, measure
from processes import children, gateway

from thingscale.accounts.models import User
from thingscale.streams import partitions
from thingscale.streams.models import Channel

CLIENTS, WINDOW = 50, 100
MONTHS_BEFORE = 5
FILL = """
INSERT INTO {partition} (channel, at, device, value)
SELECT (%(channels)s::bigint[])[1 + n %% cardinality(%(channels)s::bigint[])],
    %(start)s + n * %(step)s::interval, 1, %(value)s::jsonb
FROM generate_series(0, %(rows)s - 1) AS n
"""


def spans(now: datetime) -> list[tuple[datetime, datetime]]:
    """The current month until now, and the months before it."""
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    found = [(start, now)]
    for _ in range(MONTHS_BEFORE):
        end, start = start, (start - timedelta(days=1)).replace(day=1)
        found.append((start, end))
    return found


def fill(channels: Sequence[int], rows: int) -> None:
    """The index is made at the end, which takes less time."""
    given = {"channels": channels, "value": PAYLOAD.decode()}
    with connect() as raw:
        raw.execute("DROP INDEX datapoint_channel_at")
        for place, (start, end) in enumerate(spans(timezone.now())):
            share = rows // 2 if place == 0 else rows // 2 // MONTHS_BEFORE
            month = partitions.month_of(start)
            partitions.make(raw, month)
            own = {"start": start, "step": (end - start) / max(share, 1), "rows": share}
            raw.execute(FILL.format(partition=partitions.name_of(month)), given | own)
        raw.execute("CREATE INDEX datapoint_channel_at ON datapoint (channel, at)")
        raw.execute("VACUUM ANALYZE datapoint")  # else autovacuum would come while we measure
        raw.execute("CHECKPOINT")


def measure_empty(publish_to: Target, pid: int, load: Load) -> Measured:
    empty()
    return measure(publish_to, load, gateway=[pid], store=children(pid), backends=backends())


def measure_all(user: User, load: Load, rows: int, runs: int) -> tuple[list[Measured], list[Measured]]:
    """With an empty table, and with the rows."""
    channels = list(Channel.objects.for_account(user).values_list("pk", flat=True))
    with gateway() as (port, pid):
        publish_to = target(user, port)
        measure(publish_to, Load(CLIENTS, WINDOW, 1000))  # the warm-up
        found = [measure_empty(publish_to, pid, load) for _ in range(runs)]
        empty()
        fill(channels, rows)
        full = [
            measure(publish_to, load, gateway=[pid], store=children(pid), backends=backends())
            for _ in range(runs)
        ]
        found += [measure_empty(publish_to, pid, load) for _ in range(runs)]
    return found, full


def report(name: str, found: Sequence[Measured], *bars: Bar, ceiling: Sequence[float] = ()) -> None:
    record_loads(name, found, *bars, ceiling=ceiling, of="empty")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--messages", type=int, default=400_000)
    options = parser.parse_args()
    load = Load(CLIENTS, WINDOW, options.messages)
    found, full = measure_all(prepare(), load, options.rows, options.runs)
    report(f"{load.name}, empty table", found)
    reached = [each.load.rate for each in found]
    report(f"{load.name}, {options.rows:,} rows stored", full, at_least(0.9, "ratio"), ceiling=reached)


if __name__ == "__main__":
    main()
