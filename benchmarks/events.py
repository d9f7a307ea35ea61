"""What events cost the MQTT gateway, and what many of them take in memory.

    make bench ONLY=events                            (or, shorter:)
    python manage.py with_servers --only postgres,valkey -- python benchmarks/events.py --runs 1

The same load goes to channels that have no event, and then to the same channels with ten each, of which one
matches each hundredth datapoint, in turn. What is seen is counted: an observation for each match and one for
its end. Nobody takes the observations while it is measured.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psycopg
from common import at_least, note, record, record_loads
from database import backends, connect, empty, prepare, target
from django.db import connection
from load import Load, Target, run
from measuring import Measured, measure
from processes import children, gateway

from thingscale.accounts.models import User
from thingscale.events.models import Event, Observation
from thingscale.events.observe import observe
from thingscale.events.rule_cache import RuleCache
from thingscale.lib.clock import now_us
from thingscale.lib.ids import ChannelPk
from thingscale.processes.change_notifications import EVENTS, announce
from thingscale.streams import writer
from thingscale.streams.models import Channel

CHANNELS, RULES, RARE = 100, 10, 100
PLAIN = b'{"temp":25.1,"humidity":50}'
# Kind, source, operator, threshold. The first matches what is rare, the others nothing.
FIELDS = [
    (Event.Kind.THRESHOLD, "temp", ">", "90"),
    (Event.Kind.THRESHOLD, "temp", "<", "-20"),
    (Event.Kind.RANGE, "temp", "=", "-30..100"),
    (Event.Kind.THRESHOLD, "temp", ">=", "120"),
    (Event.Kind.THRESHOLD, "humidity", "<", "5"),
    (Event.Kind.THRESHOLD, "humidity", ">", "95"),
    (Event.Kind.RANGE, "humidity", "=", "2..98"),
    (Event.Kind.THRESHOLD, "battery", "<", "10"),
    (Event.Kind.THRESHOLD, "battery", "<", "20"),
    (Event.Kind.THRESHOLD, "status:errors", ">", "0"),
]
ROWS = 5_000  # of a batch
RULES = 10


def watch(user: User, channels: Iterable[Channel]) -> None:
    Event.objects.bulk_create(
        Event(
            user=user,
            number=place * RULES + number,
            mapped_channel=channel,
            kind=kind,
            source=source,
            operator=operator,
            threshold=threshold,
        )
        for place, channel in enumerate(channels)
        for number, (kind, source, operator, threshold) in enumerate(FIELDS, 1)
    )
    announce(EVENTS, user.pk)


def unwatch(user: User) -> None:
    Event.objects.filter(user=user).delete()
    Observation.objects.all().delete()
    announce(EVENTS, user.pk)


def measured(target: Target, pid: int, load: Load) -> Measured:
    run(target, Load(CHANNELS, 1, 2 * CHANNELS))  # the gateway has read what has changed
    Observation.objects.all().delete()
    empty()
    return measure(target, load, gateway=[pid], store=children(pid), backends=backends())


def check_seen(load: Load) -> None:
    matched = Observation.objects.filter(what=Observation.What.MATCHED).count()
    left_out = sum(Observation.objects.filter(what=Observation.What.LEFT_OUT).values_list("count", flat=True))
    if matched + left_out != load.sent // RARE:
        raise SystemExit(f"{load.sent // RARE:,} datapoints match and {matched:,} + {left_out:,} were seen.")


def ingest(runs: int, messages: int) -> None:
    user = prepare()
    load = Load(CHANNELS, 50, messages // (CHANNELS * RARE) * CHANNELS * RARE, rare=RARE)
    channels = list(Channel.objects.filter(user=user, number__lt=CHANNELS))
    without, with_events = [], []
    with gateway() as (port, pid):
        for number in range(runs):
            # Each goes first every other time: what comes second is favoured or hampered by the first.
            for watched in (False, True) if number % 2 == 0 else (True, False):
                if watched:
                    watch(user, channels)
                    with_events.append(measured(target(user, port), pid, load))
                    check_seen(load)
                    unwatch(user)
                else:
                    without.append(measured(target(user, port), pid, load))
    name = f"{CHANNELS} channels, {load.name}"
    record_loads(f"{name}, no event", without)
    pairs = zip(with_events, without, strict=True)
    cost = statistics.median(1 - one.load.rate / other.load.rate for one, other in pairs)
    note(
        f"Run by run, {RULES} events on each channel, of which one matches {1 / RARE:.0%} of the datapoints,"
        f" cost {cost:.1%} of the rate (bar: 10 %)."
    )
    record_loads(
        f"{name}, {RULES} events each, {1 / RARE:.0%} match",
        with_events,
        at_least(0.9, "ratio"),
        ceiling=[each.load.rate for each in without],
        of="no event",
    )


def memory() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cached(accounts: int, seconds: float) -> None:
    """What the writer has in memory, and how many datapoints it compares, in this process."""
    users = User.objects.bulk_create(
        User(email=f"many-{time.time_ns()}-{number}@example.com") for number in range(accounts)
    )
    channels = Channel.objects.bulk_create(Channel(user=user, number=0) for user in users)
    for user, channel in zip(users, channels, strict=True):
        watch(user, [channel])
    cache, keys = RuleCache(), {user.pk for user in users}
    with connect() as raw:
        before, started = memory(), time.perf_counter()
        cache.load(raw, keys)
        took, grown = time.perf_counter() - started, memory() - before
        count = accounts * RULES
        record(f"{count:,} events of {accounts:,} accounts: memory", [grown / 2**20], "MiB")
        record(f"{count:,} events of {accounts:,} accounts: read", [took * 1e3], "ms")
        rate(raw, cache, [ChannelPk(channel.pk) for channel in channels], seconds)
    Event.objects.filter(user__in=users).delete()


def rate(raw: psycopg.Connection, cache: RuleCache, channels: list[ChannelPk], seconds: float) -> None:
    now = now_us()
    rows = [
        writer.Row(channels[place % len(channels)], now, None, None, PLAIN, None) for place in range(ROWS)
    ]
    with raw.cursor() as cursor:

        def compare() -> None:
            observe(cursor, rows, cache.watched(row.channel for row in rows), {})

        record(
            f"Datapoints of {len(channels):,} channels compared by one thread",
            [ROWS * each for each in per_second(compare, seconds)],
        )


def per_second(call: Callable[[], None], seconds: float) -> list[float]:
    """Five measurements."""
    found = []
    for _ in range(5):
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds / 5:
            call()
            count += 1
        found.append(count / (time.perf_counter() - started))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=400_000)
    parser.add_argument("--accounts", type=int, default=1_000, help="with ten events each")
    options = parser.parse_args()
    ingest(options.runs, options.messages)
    cached(options.accounts, 5.0)
    connection.close()


if __name__ == "__main__":
    main()
