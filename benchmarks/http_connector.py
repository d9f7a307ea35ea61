"""What the HTTP connector stores a second, one datapoint a request, 200 after COMMIT, beside a bare ASGI
answer in the same run.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/http_connector.py --runs 1 --requests 20000

Load generator, web process and PostgreSQL share the machine. The bare answer comes from an application that
does nothing else, behind the same server.
"""

import argparse

from common import at_least, at_most, note, record_loads
from database import prepare
from http_load import Load, request, self_test
from load import PAYLOAD
from web import BARE, Measured, web

from thingscale.accounts.credentials import credentials

CLIENTS = 64
RATE, P99_MS = 12_000, 20
WARM_UP = 50  # requests a connection


def load(token: str, requests: int) -> Load:
    """A device for each connection."""
    own = [
        request("/post_v2/", {"X-DEVICETOKEN": token, "X-DEVICEID": f"bench-{number}"}, PAYLOAD)
        for number in range(CLIENTS)
    ]
    return Load(own, max(requests // CLIENTS, 1))


def measure(wanted: Load, runs: int) -> tuple[list[Measured], list[Measured]]:
    """The connector's and the bare answer's, in turn."""
    with web(THINGSCALE_HTTP_RATE="0") as ours, web(BARE) as bare:
        warm_up = wanted._replace(times=WARM_UP)
        ours.measure_stored(warm_up)
        bare.measure(warm_up)
        pairs = [(ours.measure_stored(wanted), bare.measure(wanted)) for _ in range(runs)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100_000)
    options = parser.parse_args()
    wanted = load(credentials(prepare())["device_token"], options.requests)
    ours, bare = measure(wanted, options.runs)
    record_loads(
        f"HTTP, {CLIENTS} connections, a datapoint a request",
        ours,
        at_least(RATE),
        at_most(P99_MS, "p99"),
        ceiling=[run.load.rate for run in bare],
        of="a bare ASGI answer",
    )
    record_loads(f"a bare ASGI answer, {CLIENTS} connections", bare)
    note(f"The generator against a server that only answers: {self_test(wanted).rate:,.0f}/s.")


if __name__ == "__main__":
    main()
