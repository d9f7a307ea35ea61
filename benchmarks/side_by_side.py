"""The gateway beside what one would do without it: same load, same PostgreSQL, same durability, in turn.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/side_by_side.py --runs 1 --messages 20000 --fewer 2000

The other ways are mosquitto with a paho-mqtt client that inserts, commits and then acknowledges each message
(subscriber.py), into a table with the same columns and index; and mosquitto with our own worker (broker
mode). Figures are of what is stored, from the first publish until the last message is in the table, where
every message is counted. mosquitto keeps nothing on disk here: what it has acknowledged to a device is lost
with it. The slow way gets --fewer messages. Skipped where mosquitto is not installed.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from broker_mode import behind_mosquitto
from common import ROOT, at_least, note, record
from database import backends, connect, empty, make_like, prepare, target
from load import Load
from measuring import Measured, measure
from processes import MOSQUITTO, children, gateway, mosquitto, running

from thingscale.accounts.models import User

TABLE = "instead"
CLIENTS, WINDOW = 50, 100
SUBSCRIBER = "mosquitto, paho-mqtt client that commits each message"


@contextmanager
def subscriber(port: int) -> Iterator[int]:
    """Its process id."""
    command = [sys.executable, str(ROOT / "benchmarks" / "subscriber.py"), str(port), TABLE]
    with running(command, subprocess.PIPE) as process:
        assert process.stdout
        if process.stdout.readline() != b"ready\n":
            raise SystemExit("The subscriber did not start.")
        yield process.pid


def with_subscriber(user: User, messages: int) -> Measured:
    with connect() as raw:
        make_like(raw, TABLE)
    with mosquitto() as (port, broker), subscriber(port) as client:
        load = Load(CLIENTS, WINDOW, messages)
        return measure(target(user, port), load, TABLE, mosquitto=[broker], client=[client])


def with_broker_mode(user: User, messages: int) -> Measured:
    return behind_mosquitto(user, Load(CLIENTS, WINDOW, messages), 1)[0]


def with_gateway(user: User, messages: int) -> Measured:
    with gateway() as (port, pid):
        publish_to = target(user, port)
        measure(publish_to, Load(CLIENTS, WINDOW, 1000))  # the warm-up
        empty()
        return measure(
            publish_to,
            Load(CLIENTS, WINDOW, messages),
            gateway=[pid],
            store=children(pid),
            backends=backends(),
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=400_000)
    parser.add_argument("--fewer", type=int, default=15_000)
    options = parser.parse_args()
    if not MOSQUITTO:
        note("Skipped: mosquitto is not installed.")
        return
    user = prepare()
    ways: list[Callable[[], Measured]] = [
        partial(with_subscriber, user, options.fewer),
        partial(with_broker_mode, user, options.messages // 4),
        partial(with_gateway, user, options.messages),
    ]
    runs = [[way() for way in ways] for _ in range(options.runs)]
    slow, broker, ours = zip(*runs, strict=True)
    baseline = [each.stored for each in slow]
    record(SUBSCRIBER, baseline, cpu_us=[each.cpu_us for each in slow])
    for name, found, bars in (
        ("mosquitto, broker mode", broker, []),
        ("gateway", ours, [at_least(20, "ratio")]),
    ):
        record(
            name,
            [each.stored for each in found],
            "/s",
            *bars,
            ceiling=baseline,
            of="that paho-mqtt client",
            cpu_us=[each.cpu_us for each in found],
        )


if __name__ == "__main__":
    main()
