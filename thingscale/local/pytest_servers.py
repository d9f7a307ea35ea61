"""A pytest plugin that starts PostgreSQL, Valkey, and a broker for broker mode: those that the environment
does not name, and all of them in each worker of pytest-xdist, since workers would disturb each other on the
same servers.

It is loaded by `-p` in pyproject.toml: the servers have to run before pytest-django reads the settings.
"""

import os
from collections.abc import Generator

import pytest

from thingscale.local import ports
from thingscale.local.servers import ALL, Servers, not_given

_servers: list[Servers] = []
WORKERS = 8
PORTS = (
    ports.LAST - ports.FIRST
) // WORKERS  # of a worker, since a port is chosen some time before it is taken


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    options = early_config.known_args_namespace
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        want = ALL
        ports.FIRST += int(worker.removeprefix("gw")) % WORKERS * PORTS
        ports.LAST = ports.FIRST + PORTS - 1
    elif options.help or options.version or options.collectonly or getattr(options, "numprocesses", None):
        want = frozenset()  # runs no test itself
    else:
        want = not_given(os.environ, ALL)
    if want:
        _servers.append(Servers(want=want, fast=True))
        os.environ |= _servers[0].__enter__()
    yield


def pytest_unconfigure() -> None:
    for servers in _servers:
        servers.close()
