"""A stack on servers of its own, with real fsync, that may be stopped without disturbing other tests."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
from stack import Stack

from thingscale.local.servers import Servers

ACCOUNT = """
import json
from support import make_account
from thingscale.devices.models import ActivationRule
account = make_account("drill@example.com")
for name in {devices!r}:
    account.device(name)
ActivationRule.objects.create(user=account.user, pattern="new-*", channel=account.channel(0))
account.channel({rest})
print(json.dumps([account.user_id, account.device_token, account.api_token]))
"""
REST_CHANNEL = 1


class Place(NamedTuple):
    """Only servers are started. One account has the devices, mapped to channel 0; Celery activates those
    named `new-...` there."""

    servers: Servers
    stack: Stack
    user_id: str
    token: str
    api_token: str
    url: str  # of the database

    def numbers(self, device: str | None, start: int = 0) -> list[int]:
        """The `n` of the device's datapoints from `start`, in order; None: of those written by REST."""
        with psycopg.connect(self.url) as connection:
            rows = connection.execute(
                """SELECT (d.value ->> 'n')::int AS n FROM datapoint d
                LEFT JOIN devices_device v ON v.id = d.device
                WHERE v.device_id IS NOT DISTINCT FROM %s AND (d.value ->> 'n')::int >= %s
                ORDER BY d.at, d.id""",
                [device, start],
            )
            return [number for (number,) in rows]


@contextmanager
def private_place(
    *devices: str,
    want: Iterable[str] = ("postgres",),
    home: Path | None = None,
    fast: bool = False,
    **environment: str,
) -> Iterator[Place]:
    """`environment` is the stack's; `fast` is for drills that leave PostgreSQL alone."""
    servers = Servers(home, want, fast)
    with servers as found:
        urls = {name: value for name, value in found.items() if name.endswith("_URL")}
        stack = Stack(**urls, PYTHONPATH="tests", THINGSCALE_REST_RATE="1000000", **environment)
        manage(stack, "migrate", "--verbosity", "0")
        account = ACCOUNT.format(devices=devices, rest=REST_CHANNEL)
        output = manage(stack, "shell", "--verbosity", "0", "-c", account)
        try:
            user_id, token, api_token = json.loads(output)
            yield Place(servers, stack, user_id, token, api_token, servers.postgres.url)
        finally:
            stack.stop()


def manage(stack: Stack, *arguments: str) -> str:
    """What a management command printed."""
    with stack.manage(*arguments) as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output
