"""Two processes that write into one channel, both with messages that may have been sent before."""

import asyncio
from collections.abc import Callable

import pytest
from django.db import connection
from drill_client import Gate, HttpSender, Load, Sender, until
from stack import Stack
from support import Account

pytestmark = [pytest.mark.e2e, pytest.mark.drill]

MESSAGES = 5_000
POSTS = 50


def deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def test_web_and_ingest_do_not_lock_each_other_out(stack: Callable[..., Stack], account: Account) -> None:
    running = stack()
    for device in ("d1", "d2"):
        account.device(device)
    before = deadlocks()
    sender = Sender(
        running.mqtt, account.user_id, account.device_token, "two-writers", Gate(MESSAGES), window=500
    )
    posters = [HttpSender(running.http, account.device_token, Gate(POSTS), f"d{n}") for n in (1, 2)]

    async def drill() -> None:
        async with Load([sender]).flowing(20):
            await asyncio.wait_for(asyncio.gather(*(poster.run() for poster in posters)), 20)
            await until(lambda: len(sender.acked) == MESSAGES, 60)

    asyncio.run(drill())
    assert len(account.stored()) == MESSAGES + 2 * POSTS
    assert {answer[:2] for poster in posters for answer in poster.answers} == {(200, "OK")}
    assert "Deadlock" not in running.log("ingest") + running.log("web")
    assert deadlocks() == before
