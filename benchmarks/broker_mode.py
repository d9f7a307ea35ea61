"""What broker mode stores a second: devices publish to mosquitto, and our worker reads there.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/broker_mode.py --runs 1 --messages 20000

From the first publish until the last message is in the table, QoS 1 on both sides. Generator, mosquitto,
worker and PostgreSQL share the machine. Every message is counted in the table. Skipped where mosquitto is
not installed.
"""

import argparse

from common import at_least, note, record
from database import backends, ceiling, empty, prepare, target
from load import Load, Target
from measuring import Measured, measure
from processes import MOSQUITTO, broker_worker, mosquitto

from thingscale.accounts.models import User

CLIENTS, WINDOW = 50, 100


def behind_mosquitto(user: User, load: Load, runs: int) -> list[Measured]:
    with mosquitto() as (port, broker), broker_worker(port) as worker:
        publish_to = target(user, port)
        measure(publish_to, Load(CLIENTS, WINDOW, 1000))  # the warm-up
        return [one_run(publish_to, load, broker, worker) for _ in range(runs)]


def one_run(publish_to: Target, load: Load, broker: int, worker: int) -> Measured:
    empty()
    return measure(publish_to, load, mosquitto=[broker], worker=[worker], backends=backends())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=100_000)
    options = parser.parse_args()
    if not MOSQUITTO:
        note("Skipped: mosquitto is not installed.")
        return
    user, load = prepare(), Load(CLIENTS, WINDOW, options.messages)
    copied = [ceiling(user, CLIENTS, options.messages) for _ in range(options.runs)]
    measured = behind_mosquitto(user, load, options.runs)
    record(
        f"{load.name}, stored",
        [each.stored for each in measured],
        "/s",
        at_least(12_000),
        ceiling=copied,
        cpu_us=[each.cpu_us for each in measured],
    )


if __name__ == "__main__":
    main()
