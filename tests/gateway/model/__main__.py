"""python -m model --server mosquitto --seed 1 --steps 100000; PYTHONPATH: tests/gateway, tests, and ."""

import argparse
import os
import secrets
import sys
import time
from contextlib import ExitStack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("mosquitto", "thingscale"), default="mosquitto")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--shorten", action="store_true", help="leave out what the divergence does not need")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds to wait for what is owed")
    parser.add_argument("--gateways", type=int, default=1, help="of thingscale")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thingscale.settings")
    os.environ.setdefault("THINGSCALE_SECRET_KEY", secrets.token_hex(32))
    from model.running import describe, divergence_of, shorten
    from model.script import script
    from model.servers import Mosquitto, Server, Thingscale

    with ExitStack() as cleanup:
        server: Server
        if options.server == "mosquitto":
            server = Mosquitto()
        else:
            from private_place import private_place

            from thingscale.local.servers import ALL

            place = cleanup.enter_context(private_place("d0", "d1", "d2", want=ALL, fast=True))
            server = Thingscale(place.stack, place.user_id, place.token, options.gateways)
        cleanup.callback(server.stop)
        started = time.monotonic()
        steps = script(options.seed, options.steps)
        found = divergence_of(server, steps, patience=options.patience)
        seconds = time.monotonic() - started
        sys.stdout.write(f"{options.steps} steps, seed {options.seed}, {seconds:.1f} s\n")
        if found:
            failing = steps[: found.step + 1]
            if options.shorten:
                failing = shorten(server, failing, found)
            sys.stdout.write(describe(options.seed, found, failing))
            sys.exit(1)


main()
