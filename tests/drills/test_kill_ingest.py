"""kill -9 and SIGTERM of the ingest process under load: every message is stored, none twice."""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from django.db import connection
from drill_client import Gate, Load, Sender, until
from drill_load import LONG
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from stack import Stack, wait_until
from support import Account

from ingest.mqtt.packets import V5, V311

pytestmark = [pytest.mark.e2e, pytest.mark.drill]

KILLS = 20 if LONG else 5
MESSAGES = 1000 * KILLS
CONNECTIONS = 4


def stored(account: Account) -> tuple[int, int, int, int]:
    """Of the messages' numbers: how many, how many different ones, the least and the largest."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT count(*), count(DISTINCT n), min(n), max(n)
            FROM (SELECT (value ->> 'n')::int AS n FROM datapoint WHERE channel = %s) AS d""",
            [account.channel().pk],
        )
        count, distinct, least, largest = cursor.fetchone()
        return count, distinct, least, largest


def make_load(port: int, account: Account, gate: Gate, qos: int = 1) -> Load:
    return Load(
        [
            Sender(
                port,
                account.user_id,
                account.device_token,
                f"drill-{number}",
                gate,
                version=(V311, V5)[number % 2],
                qos=qos,
            )
            for number in range(CONNECTIONS)
        ]
    )


async def moment(load: Load, chance: random.Random) -> None:
    """Some time into the life of the process: before the clients are back, in mid-flow, or past it."""
    before = load.count
    if chance.random() < 0.5:
        await asyncio.sleep(chance.uniform(0, 0.1))
    else:
        goal = before + chance.randrange(1, 600)
        await until(lambda: load.count >= goal, 60)


async def restart(running: Stack) -> None:
    running.processes["ingest"].kill()
    await asyncio.to_thread(running.processes["ingest"].wait, 60)
    await asyncio.to_thread(running.ensure, "ingest")


def test_kill_9_again_and_again(stack: Callable[..., Stack], account: Account) -> None:
    running = stack("ingest")
    account.device("d1")
    chance = random.Random()
    gate = Gate(MESSAGES, 0)
    load = make_load(running.mqtt, account, gate)
    caught = 0

    async def drill() -> None:
        nonlocal caught
        async with load.flowing(60):
            for _ in range(KILLS):
                gate.open(MESSAGES // KILLS)
                await moment(load, chance)
                caught += load.in_flight > 0
                await restart(running)

    asyncio.run(drill())
    assert caught >= KILLS // 2, "the processes were killed while nothing was on its way"
    assert load.repeated > 0
    assert load.count == MESSAGES
    assert stored(account) == (MESSAGES, MESSAGES, 0, MESSAGES - 1)


def test_kill_9_at_qos_2(stack: Callable[..., Stack], account: Account) -> None:
    running = stack("ingest")
    account.device("d1")
    chance = random.Random()
    gate = Gate(3000, 0)
    load = make_load(running.mqtt, account, gate, qos=2)

    async def drill() -> None:
        async with load.flowing(30):
            for _ in range(3):
                gate.open(1000)
                await moment(load, chance)
                await restart(running)

    asyncio.run(drill())
    assert stored(account) == (3000, 3000, 0, 2999)


def store_of(gateway: int) -> int:
    """The process id of the store, the only child of the gateway."""
    (child,) = Path(f"/proc/{gateway}/task/{gateway}/children").read_text().split()
    return int(child)


def ended(pid: int) -> bool:
    """Gone, or waiting to be reaped by the first process of the machine, as what has lost its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_kill_9_of_the_store(stack: Callable[..., Stack], account: Account) -> None:
    """The gateway ends with it, and is started again."""
    running = stack("ingest")
    account.device("d1")
    chance = random.Random()
    gate = Gate(3000, 0)
    load = make_load(running.mqtt, account, gate)

    async def drill() -> None:
        async with load.flowing(30):
            for _ in range(3):
                gate.open(1000)
                await moment(load, chance)
                process = running.processes["ingest"]
                os.kill(store_of(process.pid), signal.SIGKILL)
                assert await asyncio.to_thread(process.wait, 60) == 1
                await asyncio.to_thread(running.ensure, "ingest")

    asyncio.run(drill())
    assert stored(account) == (3000, 3000, 0, 2999)


def test_the_store_ends_with_the_gateway(stack: Callable[..., Stack]) -> None:
    running = stack("ingest")
    store = store_of(running.processes["ingest"].pid)
    assert not ended(store)
    running.kill("ingest")
    wait_until(lambda: ended(store), 60, "the end of the store")


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(MQTTProtocolVersion.MQTTv311, id="3.1.1"),
        pytest.param(MQTTProtocolVersion.MQTTv5, id="5"),
    ],
)
def test_kill_9_with_an_unmodified_client(
    stack: Callable[..., Stack], account: Account, version: MQTTProtocolVersion
) -> None:
    running = stack("ingest")
    account.device("d1")
    chance = random.Random()
    client, acked = make_paho(version, account)
    client.connect("127.0.0.1", running.mqtt)
    client.loop_start()
    try:
        for end in (1000, 2000):
            for number in range(end - 1000, end):
                client.publish(f"{account.device_token}/json/d1", f'{{"n":{number}}}', qos=1)
            wait_for(acked, end - chance.randrange(500, 1000))
            assert len(acked) < end, "it was too quick for this drill"
            running.kill("ingest")
            running.ensure("ingest")
            wait_for(acked, end)
    finally:
        client.disconnect()
        client.loop_stop()
    assert stored(account) == (2000, 2000, 0, 1999)


def make_paho(version: MQTTProtocolVersion, account: Account) -> tuple[mqtt.Client, set[int]]:
    """The client and the packet ids of what it knows to be acknowledged."""
    acked: set[int] = set()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "paho", protocol=version)
    client.username_pw_set(account.user_id, account.device_token)
    client.reconnect_delay_set(1, 1)
    client.max_inflight_messages_set(50)
    client.on_publish = lambda _client, _data, mid, _code, _properties: acked.add(mid)
    return client, acked


def wait_for(acked: set[int], count: int) -> None:
    wait_until(lambda: len(acked) >= count, 60, f"{count} acknowledgements")


def test_sigterm_under_load_drains(stack: Callable[..., Stack], account: Account) -> None:
    running = stack("ingest")
    account.device("d1")
    load = make_load(running.mqtt, account, Gate(1_000_000))
    process = running.processes["ingest"]

    async def drill() -> None:
        tasks = [asyncio.create_task(sender.run()) for sender in load.senders]
        await until(lambda: load.count > 2000, 60)
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 60)
        await asyncio.sleep(0.1)  # what it sent last is read
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(drill())
    assert process.returncode == 0, running.log("ingest")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (value ->> 'n')::int FROM datapoint WHERE channel = %s", [account.channel().pk]
        )
        numbers = [number for (number,) in cursor.fetchall()]
    assert load.acked <= set(numbers)
    assert len(numbers) == len(set(numbers))
    assert set(numbers) == load.acked, "what it had stored, it had the time to acknowledge"
