"""A stack on a PostgreSQL of its own, with real fsync, that may be stopped without disturbing other tests."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psycopg
from stack import Stack

from thingscale.local.servers import Servers

ACCOUNT = """
import json
from support import make_account
account = make_account("drill@example.com")
for name in {devices!r}:
    account.device(name)
print(json.dumps([account.user_id, account.device_token]))
"""


class Place(NamedTuple):
    """Nothing is started but PostgreSQL. One account has the devices, mapped to channel 0."""

    servers: Servers
    stack: Stack
    user_id: str
    token: str

    def numbers(self, device: str) -> list[int]:
        """The `n` of the device's datapoints, in order."""
        with psycopg.connect(self.servers.postgres.url) as connection:
            rows = connection.execute(
                """SELECT (d.value ->> 'n')::int FROM datapoint d
                JOIN devices_device v ON v.id = d.device WHERE v.device_id = %s
                ORDER BY d.at, d.id""",
                [device],
            )
            return [number for (number,) in rows]


@contextmanager
def private_place(*devices: str) -> Iterator[Place]:
    servers = Servers(want={"postgres"})
    with servers as environment:
        stack = Stack(DATABASE_URL=environment["DATABASE_URL"], PYTHONPATH="tests")
        _run(stack, "migrate", "--verbosity", "0")
        output = _run(stack, "shell", "--verbosity", "0", "-c", ACCOUNT.format(devices=devices))
        try:
            yield Place(servers, stack, *json.loads(output))
        finally:
            stack.stop()


def _run(stack: Stack, *arguments: str) -> str:
    with stack.manage(*arguments) as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output
