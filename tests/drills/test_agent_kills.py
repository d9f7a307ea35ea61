"""The agent of a server while it and the platform are killed, connections are cut and answers get lost, in
any order: what it has kept is stored once."""

import logging
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from drill_load import LONG
from lossy_proxy import Proxy
from running_agent import HOST_ID, RunningAgent, Start, samples, wait_for
from support import Account

pytestmark = pytest.mark.drill
log = logging.getLogger(__name__)

SECONDS = 300 if LONG else 10
SPEED = 60.0  # of the agent's clock


def test_whatever_is_killed_each_sample_is_stored_once(
    stack: Start, account: Account, tmp_path: Path
) -> None:
    running = stack()
    account.device(HOST_ID)
    mqtt, http = Proxy(running.mqtt), Proxy(running.http)
    ports = {"SERVWATCH_MQTT_PORT": str(mqtt.port), "SERVWATCH_HTTP_PORT": str(http.port)}
    agent = RunningAgent(
        account,
        running,
        tmp_path,
        SERVWATCH_CONNECTOR="auto",
        SERVWATCH_INTERVAL="10",
        PADDING="300",
        **ports,
    )
    seed = random.randrange(1 << 32)
    log.info("seed %d", seed)
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    try:
        agent.start_fast(SPEED, time.time() - 8 * 3600)
        wait_for(lambda: len(samples(account)) > 2, agent, "the first samples")
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            what = chance.choice(
                ["kill the agent", "kill ingest", "kill web", "cut", "lose answers", "nothing"]
            )
            done[what] += 1
            proxy = chance.choice([mqtt, http])
            if what == "kill the agent":
                agent.kill()
            elif what == "cut":
                proxy.cut()
            elif what == "lose answers":
                proxy.deaf = True
                time.sleep(chance.uniform(0, 1))
                chance.choice([proxy.cut, agent.kill])()
                proxy.deaf = False
            elif what.startswith("kill"):
                running.kill(what.removeprefix("kill "))
                time.sleep(chance.uniform(0, 2))
                stack()
            if agent.process and agent.process.poll() is not None:
                agent.start_fast(SPEED, agent.kept[-1] / 1e6 + 5)
            time.sleep(chance.uniform(0, 1.5))
        kept = set(agent.kept)
        wait_for(lambda: kept <= {each.at for each in samples(account)}, agent, "all that was kept")
    finally:
        agent.kill()
        mqtt.close()
        http.close()
    times = Counter(each.at for each in samples(account))
    log.info("%s, %d samples", dict(done), len(times))
    assert not [at for at, count in times.items() if count > 1], f"seed {seed}"
    assert "Traceback" not in agent.log
