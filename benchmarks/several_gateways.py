"""What two gateways on this machine store a second, beside one in the same run, and what a message costs.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/several_gateways.py --runs 1 --messages 50000

One gateway, two of them at ports of their own with half of the connections each, and two at one port, as
`manage.py up --workers 2` starts them, where the kernel deals the connections out: in turn, on one database.
Each commits batches of its own, and smaller ones. The loads with a fixed rate say how the cost of a message
falls while batches grow. A connection and a ping are measured too: docs/several-machines.md
reckons with these what many devices need.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager

from common import at_least, record, record_loads
from database import backends, empty, prepare, target
from load import Load, Target, connect, run
from measuring import Measured, measure
from processes import Used, children, gateway, two_gateways

from thingscale.accounts.models import User

ONE, TWO, SHARED = "one gateway", "two gateways", "two gateways at one port"
CONNECTIONS = 100
RATES = (1_000, 5_000, 20_000)
RATE_SECONDS = 5
CONNECTED, PINGS = 5_000, 10  # connections, and pings of each


def loads(messages: int) -> list[Load]:
    fixed = [Load(CONNECTIONS, 100, min(messages, rate * RATE_SECONDS), rate=rate) for rate in RATES]
    return [Load(CONNECTIONS, 100, messages), Load(1000, 1, messages // 4), *fixed]


@contextmanager
def started(way: str, user: User) -> Iterator[tuple[Target, list[int]]]:
    if way == ONE:
        with gateway() as (port, pid):
            yield target(user, port), [pid]
    else:
        with two_gateways(share=way == SHARED) as (mqtt, pids):
            yield target(user, mqtt[0])._replace(second_port=mqtt[1]), pids


def measure_all(way: str, user: User, wanted: list[Load]) -> list[Measured]:
    with started(way, user) as (publish_to, pids):
        run(publish_to, Load(1000, 1, 2000))  # the warm-up: each gateway has seen every device
        run(publish_to, Load(1000, 1, 2000))
        stores = [child for pid in pids for child in children(pid)]
        found = []
        for load in wanted:
            empty()
            found.append(measure(publish_to, load, gateway=pids, store=stores, backends=backends()))
        return found


def connections(way: str, user: User) -> None:
    """What a connection and a ping cost, without TLS."""
    with started(way, user) as (publish_to, pids):
        run(publish_to, Load(1000, 1, 2000))  # the warm-up
        processes = {
            "gateway": pids,
            "store": [child for pid in pids for child in children(pid)],
            "backends": backends(),
        }
        used, began = Used(**processes), time.perf_counter()
        clients = connect(publish_to, Load(CONNECTED, 1, CONNECTED))
        seconds = time.perf_counter() - began
        record(f"{way}: connections", [CONNECTED / seconds], cpu_us=[used.us(CONNECTED)])
        used, began = Used(**processes), time.perf_counter()
        for _ in range(PINGS):
            for client in clients:
                client.ping()
            for client in clients:
                client.wait_pong()
        seconds = time.perf_counter() - began
        record(f"{way}: pings", [CONNECTED * PINGS / seconds], cpu_us=[used.us(CONNECTED * PINGS)])
        for client in clients:
            client.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--messages", type=int, default=200_000, help="of the first load; default: %(default)s"
    )
    options = parser.parse_args()
    user, wanted = prepare(), loads(options.messages)
    ways = (ONE, TWO, SHARED)
    runs = [{way: measure_all(way, user, wanted) for way in ways} for _ in range(options.runs)]
    for place, load in enumerate(wanted):
        alone = [each[ONE][place] for each in runs]
        record_loads(f"{ONE}: {load.name}", alone)
        for way in (TWO, SHARED):
            found = [each[way][place] for each in runs]
            if load.rate:
                record_loads(f"{way}: {load.name}", found)
                continue
            record(
                f"{way}: {load.name}",
                [each.stored for each in found],
                "/s",
                at_least(0.8, "ratio"),
                ceiling=[each.stored for each in alone],
                of=ONE,
                cpu_us=[each.cpu_us for each in found],
            )
    for way in (ONE, TWO):
        connections(way, user)


if __name__ == "__main__":
    main()
