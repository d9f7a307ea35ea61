"""What the MQTT gateway stores a second, PUBACK after COMMIT, beside raw COPY in the same run.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/ingest_mqtt.py --runs 1 --messages 50000

Load generator, gateway and PostgreSQL share the machine. COPY is one connection that stores the same rows,
prebuilt and sorted, 1,000 a transaction, into a table like a partition of `datapoint`. Latencies run from
when a message was due to its PUBACK (its PUBREC at QoS 2). Every message is counted in the table.
Each measurement, COPY's too, begins after a checkpoint (database.py says why).
"""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from common import Bar, at_least, at_most, note, record, record_loads
from database import DEVICES, backends, ceiling, empty, prepare, target
from load import Load, Target, run, self_test
from measuring import Measured, measure
from processes import children, gateway

from thingscale.accounts.models import User

FIXED_RATE, FIXED_SECONDS = 20_000, 10


class Run(NamedTuple):
    ceilings: dict[int, float]  # by the number of channels
    measured: list[Measured]  # by load


def loads(messages: int) -> list[tuple[Load, list[Bar]]]:
    fixed = min(messages, FIXED_RATE * FIXED_SECONDS)
    return [
        (Load(50, 100, messages), [at_least(80_000), at_least(0.45, "ratio")]),
        (Load(1000, 1, max(messages // 4, 1000)), [at_least(30_000)]),
        (Load(50, 100, fixed, rate=FIXED_RATE), [at_most(15, "p99")]),
        (Load(50, 100, messages // 2, qos=2), [at_least(30_000)]),
    ]


def measure_empty(target: Target, pid: int, load: Load) -> Measured:
    empty()
    return measure(target, load, gateway=[pid], store=children(pid), backends=backends())


def warm_up(target: Target) -> None:
    run(target, Load(DEVICES, 1, 2 * DEVICES))


def one_run(user: User, target: Target, pid: int, wanted: Sequence[Load]) -> Run:
    rows = max(load.total for load in wanted)
    channels = sorted({load.clients for load in wanted})
    return Run(
        {number: ceiling(user, number, rows) for number in channels},
        [measure_empty(target, pid, load) for load in wanted],
    )


def report(load: Load, bars: Sequence[Bar], measured: Sequence[Measured], copied: Sequence[float]) -> None:
    record_loads(load.name, measured, *bars, ceiling=() if load.rate else copied)


def report_generator(wanted: Sequence[Load]) -> None:
    note(
        "The generator is not the bottleneck: the last lines say what it does against a server that only"
        " acknowledges, and its processor time a message stands beside each figure."
    )
    for load, result in zip(wanted, self_test(wanted), strict=True):
        record(f"Generator alone, {load.name}", [result.rate], cpu_us=[{"generator": result.generator_us}])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--messages", type=int, default=400_000, help="of the first load; default: %(default)s"
    )
    options = parser.parse_args()
    user, wanted = prepare(), loads(options.messages)
    with gateway() as (port, pid):
        warm_up(target(user, port))
        runs = [
            one_run(user, target(user, port), pid, [load for load, _ in wanted]) for _ in range(options.runs)
        ]
    for place, (load, bars) in enumerate(wanted):
        copied = [run.ceilings[load.clients] for run in runs]
        report(load, bars, [run.measured[place] for run in runs], copied)
    for channels in runs[0].ceilings:
        record(f"COPY, {channels:,} channels", [run.ceilings[channels] for run in runs])
    report_generator([load for load, _ in wanted[:2]])


if __name__ == "__main__":
    main()
