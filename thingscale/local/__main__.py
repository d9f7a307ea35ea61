"""`python -m thingscale.local up | with_servers`: the same as by manage.py, without loading Django."""

import argparse
import sys

from thingscale.local import run_with_servers, up
from thingscale.local.errors import StartError


def main() -> int:
    parser = argparse.ArgumentParser(prog="thingscale.local")
    commands = parser.add_subparsers(dest="name", required=True)
    up.add_arguments(commands.add_parser("up"))
    run_with_servers.add_arguments(commands.add_parser("with_servers"))
    options = parser.parse_args()
    if options.name == "up":
        return up.run(options.only, options.workers)
    try:
        return run_with_servers.run(options.only, options.fast, options.command)
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
