"""What POST /v2/stream/{channel} stores a second in arrays of 1,000 datapoints, beside raw COPY in the same
run.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/rest_arrays.py --runs 1 --arrays 100

Several clients, each with a channel of its own, send one array after the other, to one web process and to two
(docs/configuration.md). Load generator, web and PostgreSQL share the machine. The ceiling is one connection
that COPYs the same values, 1,000 a transaction (database.py), in each run; all begin with an empty table.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from common import at_least, note, record_loads
from database import ceiling, empty, prepare
from http_load import Load, request, self_test
from load import PAYLOAD
from web import Measured, Web, web

from thingscale.accounts.credentials import credentials
from thingscale.accounts.models import User
from thingscale.lib.clock import now_us, utc_text

ARRAY = 1000
CLIENTS = 6
RATE, RATIO = 100_000, 0.5
PROCESSES = (1, 2)  # of the web server: one is what `make run` starts, two take all of two cores
WARM_UP = 5  # arrays a connection


class Run(NamedTuple):
    copied: float  # rows a second, by COPY
    measured: dict[str, Measured]  # by shape


def value(place: int) -> dict[str, Any]:
    return {"value": orjson.Fragment(PAYLOAD)}


def value_and_time(place: int) -> dict[str, Any]:
    """A second apart, the last one now."""
    return value(place) | {"at": utc_text(now_us() - (ARRAY - place) * 1_000_000)}


SHAPES: dict[str, Callable[[int], dict[str, Any]]] = {"values": value, "values and times": value_and_time}


def load(token: str, arrays: int, shape: Callable[[int], dict[str, Any]]) -> Load:
    body = orjson.dumps([shape(place) for place in range(ARRAY)])
    own = [request(f"/v2/stream/{number}", {"X-APITOKEN": token}, body) for number in range(CLIENTS)]
    return Load(own, max(arrays // CLIENTS, 1), status=201, size=ARRAY)


def report(processes: int, what: str, runs: Sequence[Run]) -> None:
    served = f", {processes} web processes" if processes > 1 else ""
    record_loads(
        f"REST, {CLIENTS} connections, arrays of {ARRAY:,} {what}{served}",
        [run.measured[what] for run in runs],
        at_least(RATE),
        at_least(RATIO, "ratio"),
        ceiling=[run.copied for run in runs],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--arrays", type=int, default=500)
    options = parser.parse_args()
    user = prepare()
    User.objects.filter(pk=user.pk).update(rest_rate=1_000_000)
    token = credentials(user)["api_token"]
    loads = {name: load(token, options.arrays, shape) for name, shape in SHAPES.items()}
    copied: list[float] = []
    for processes in PROCESSES:
        with web(WEB_CONCURRENCY=str(processes)) as server:
            warm_up(server, loads)
            runs = [one_run(user, server, loads) for _ in range(options.runs)]
        copied += [run.copied for run in runs]
        for name in loads:
            report(processes, name, runs)
    note(f"COPY, {CLIENTS} channels: {statistics.median(copied):,.0f}/s.")
    note(f"The generator against a server that only answers: {self_test(loads['values']).rate:,.0f}/s.")


def warm_up(server: Web, loads: Mapping[str, Load]) -> None:
    for wanted in loads.values():
        server.measure_stored(wanted._replace(times=WARM_UP))


def one_run(user: User, server: Web, loads: Mapping[str, Load]) -> Run:
    copied = ceiling(user, CLIENTS, max(load.messages for load in loads.values()))
    return Run(copied, {name: measure_empty(server, load) for name, load in loads.items()})


def measure_empty(server: Web, load: Load) -> Measured:
    empty()
    return server.measure_stored(load)


if __name__ == "__main__":
    main()
