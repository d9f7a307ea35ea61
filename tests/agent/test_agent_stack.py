"""The agent and the platform, both for real: nothing that fits is lost or stored twice, whatever is away."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lossy_proxy import Proxy
from running_agent import HOST_ID, RunningAgent, Start, arrival_order, samples, stored, wait_for
from servwatch_agent.buffer import LAST_PACKET_ID, Buffer
from stack import Stack, free_port, wait_until
from support import Account

from thingscale.devices.models import Device, RejectedMessage
from thingscale.provisioning.actions import configure_device

pytestmark = pytest.mark.e2e

HOUR = 3600.0
FAST = 3600.0  # an hour takes a second
MINUTE_A_SECOND = 60.0
GROUPS = {"interval", "uptime", "cpu", "load", "memory", "disk", "processes", "agent"}


@pytest.fixture
def agents() -> Iterator[list[RunningAgent]]:
    started: list[RunningAgent] = []
    yield started
    for each in started:
        each.kill()


def publish(running: Stack, account: Account, payload: str) -> None:
    request = urllib.request.Request(
        running.url(f"/v2/publish/{HOST_ID}"),
        json.dumps({"payload": payload, "qos": 1}).encode(),
        {"X-APITOKEN": account.api_token},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def get(running: Stack, account: Account, path: str, headers: dict[str, str]) -> Any:
    request = urllib.request.Request(running.url(path), headers={"X-APITOKEN": account.api_token, **headers})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_a_host_registers_itself_tells_its_facts_and_obeys(
    stack: Start, account: Account, tmp_path: Path, agents: list[RunningAgent]
) -> None:
    running = stack()
    agent = RunningAgent(account, running, tmp_path, SERVWATCH_INTERVAL="20")
    agents.append(agent)
    agent.start_fast(MINUTE_A_SECOND, time.time())
    device = Device.objects.for_account(account.user)
    wait_for(device.exists, agent, "the host to be there")
    host = device.get()
    assert (host.device_id, host.enabled) == (HOST_ID, False)
    configure_device(host, {"enabled": True, "mapped_channel": account.channel()})
    wait_for(lambda: len(samples(account)) >= 4, agent, "its samples, with those before it was mapped")
    value = samples(account)[-1].value
    assert value.keys() >= GROUPS
    assert 99 < sum(share for state, share in value["cpu"].items() if state not in ("count", "core")) < 101
    range_ = {"X-STARTTIME": "2020-01-01", "X-ENDTIME": "2100-01-01", "X-AGGREGATE": "avg"}
    average = get(running, account, "/v2/stream/0", range_)["result"][0]["value"]
    assert 0 <= average["cpu"]["idle"] <= 100
    assert average["memory"]["total"] == value["memory"]["total"]
    wait_for(lambda: device.get().state, agent, "its facts")
    state = device.get().state
    assert state
    assert state.keys() >= {"os", "kernel", "memory", "cores", "address", "agent"}

    for command, ok, answer in (
        ("ping", True, "pong"),
        ("interval=0.1", False, "an interval is from 2 to 3600 seconds"),
        ("rm -rf /", False, "it knows ping, report and interval=N"),
        ("interval=3600", True, "a sample every 3600 seconds, until the agent starts again"),
        ("report", True, "a sample follows"),
    ):
        before = len(samples(account))
        publish(running, account, command)
        said = {"command": command, "ok": ok, "answer": answer}
        wait_for(lambda said=said: said in [e.value for e in stored(account) if e.tag], agent, command)  # type: ignore[misc]
    wait_for(lambda: len(samples(account)) > before, agent, "the sample that was asked for")
    assert account.device_token not in agent.log
    agent.stop()
    assert agent.process
    assert agent.process.returncode == 0, agent.log


def test_packet_ids_begin_again(
    stack: Start, account: Account, tmp_path: Path, agents: list[RunningAgent]
) -> None:
    account.device(HOST_ID)
    buffer = Buffer(tmp_path / "buffer", 1 << 20)
    buffer.packet_id = LAST_PACKET_ID - 2
    buffer.close()
    agent = RunningAgent(account, stack(), tmp_path, SERVWATCH_INTERVAL="20", PADDING="10")
    agents.append(agent)
    agent.start_fast(MINUTE_A_SECOND, time.time() - HOUR)
    wait_for(lambda: len(samples(account)) >= 6, agent, "samples on both sides of the last id")
    assert "no answer" not in agent.log


def test_six_hours_without_the_platform_and_two_kills_lose_nothing(
    stack: Start, account: Account, tmp_path: Path, agents: list[RunningAgent]
) -> None:
    running = stack()
    account.device(HOST_ID)
    agent = RunningAgent(account, running, tmp_path, SERVWATCH_INTERVAL="30", PADDING="500")
    agents.append(agent)
    began = time.time() - 7 * HOUR
    agent.start_fast(FAST, began)
    wait_for(lambda: len(samples(account)) >= 3, agent, "the first samples")
    running.kill("ingest")
    for hours in (2, 4, 6):
        if agent.kept[-1] > began * 1e6:
            agent.kill()
            agent.start_fast(FAST, agent.kept[-1] / 1e6 + 10)
        wait_for(lambda hours=hours: agent.kept[-1] > (began + hours * HOUR) * 1e6, agent, f"{hours} hours")  # type: ignore[misc]
    kept = set(agent.kept)
    stack()
    wait_for(lambda: kept <= {each.at for each in samples(account)}, agent, "all of them")
    agent.kill()
    times = [each.at for each in samples(account)]
    assert len(times) == len(set(times)), "none twice"
    assert len(set(times) - set(agent.kept)) <= 3, "but those whose line in the log was lost by a kill"
    assert arrival_order(account) == times, "in order"


def test_at_its_cap_the_newest_arrive_and_the_number_of_the_others(
    stack: Start, account: Account, tmp_path: Path, agents: list[RunningAgent]
) -> None:
    running = stack()
    account.device(HOST_ID)
    running.kill("ingest")
    small = {"SERVWATCH_BUFFER_MEGABYTES": "1", "PADDING": "8000"}
    agent = RunningAgent(account, running, tmp_path, SERVWATCH_INTERVAL="60", **small)
    agents.append(agent)
    agent.start_fast(FAST, time.time() - 8 * HOUR)
    wait_for(lambda: len(agent.kept) > 250, agent, "more than fits")
    stack()
    wait_for(lambda: samples(account), agent, "the first one that is there")
    publish(running, account, "interval=3600")
    wait_for(lambda: agent.kept[-1] in {each.at for each in samples(account)}, agent, "the newest")
    before = len(agent.kept)
    wait_for(lambda: len(agent.kept) > before, agent, "one that tells of what the one before has cost")
    wait_for(lambda: agent.kept[-1] in {each.at for each in samples(account)}, agent, "it")
    agent.kill()
    found = samples(account)
    times = [each.at for each in found]
    assert len(times) == len(set(times))
    assert times == arrival_order(account)
    missing = {at for at in agent.kept if at <= times[-1]} - set(times)
    assert len(missing) > 100
    assert sum(each.value["agent"].get("dropped", 0) for each in found) == len(missing)
    assert len(times) > 90, "of a mebibyte, what fits"
    assert "The buffer is full" in agent.log


@pytest.mark.parametrize("connector", ["mqtt", "http"])
def test_what_was_stored_without_an_answer_is_stored_once(
    stack: Start, account: Account, tmp_path: Path, agents: list[RunningAgent], connector: str
) -> None:
    """Once the connection is lost then, and once the agent is killed."""
    running = stack()
    account.device(HOST_ID)
    proxy = Proxy(running.mqtt if connector == "mqtt" else running.http)
    port = {f"SERVWATCH_{connector.upper()}_PORT": str(proxy.port)}
    agent = RunningAgent(
        account,
        running,
        tmp_path,
        SERVWATCH_CONNECTOR=connector,
        SERVWATCH_INTERVAL="30",
        PADDING="10",
        **port,
    )
    agents.append(agent)
    start = time.time() - HOUR
    agent.start_fast(MINUTE_A_SECOND, start)
    for end in (proxy.cut, agent.kill):
        wait_for(lambda: len(samples(account)) >= 2, agent, "samples")
        before, proxy.lost = len(samples(account)), 0
        proxy.deaf = True
        wait_for(
            lambda before=before: proxy.lost and len(samples(account)) > before,  # type: ignore[misc]
            agent,
            "one that is stored, and an answer that gets lost",
        )
        end()
        proxy.deaf = False
        if end == agent.kill:
            agent.start_fast(MINUTE_A_SECOND, agent.kept[-1] / 1e6 + 10)
        kept = agent.kept[-1]
        wait_for(lambda kept=kept: any(each.at > kept for each in samples(account)), agent, "more")  # type: ignore[misc]
    agent.stop()
    proxy.close()
    times = [each.at for each in samples(account)]
    assert len(times) == len(set(times))
    assert set(agent.kept[:-3]) <= set(times)


def test_where_mqtt_does_not_get_through_http_does_until_it_does(
    stack: Start, account: Account, tmp_path: Path, agents: list[RunningAgent]
) -> None:
    running = stack()
    port = free_port()
    environment = {"SERVWATCH_CONNECTOR": "auto", "SERVWATCH_MQTT_PORT": str(port), "PADDING": "10"}
    agent = RunningAgent(account, running, tmp_path, SERVWATCH_INTERVAL="60", **environment)
    agents.append(agent)
    agent.start_fast(600, time.time() - 12 * HOUR)
    wait_for(lambda: "Samples arrive, by HTTP" in agent.log, agent, "HTTP")
    configure_device(
        Device.objects.for_account(account.user).get(), {"enabled": True, "mapped_channel": account.channel()}
    )
    wait_for(lambda: len(samples(account)) > 3, agent, "its samples, with those before it was mapped")
    assert "Connection refused" in agent.log
    proxy = Proxy(running.mqtt, port)
    wait_for(lambda: "Samples arrive, by MQTT" in agent.log, agent, "MQTT")
    agent.stop()
    proxy.close()
    assert arrival_order(account) == [each.at for each in samples(account)]
    assert set(agent.kept[:-2]) <= {each.at for each in samples(account)}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_on_a_full_disk_samples_wait_in_memory(
    stack: Start, account: Account, tmp_path: Path, agents: list[RunningAgent]
) -> None:
    running = stack()
    account.device(HOST_ID)
    running.kill("ingest")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    try:
        environment = {"SERVWATCH_BUFFER": str(folder / "buffer"), "PADDING": "4000"}
        agent = RunningAgent(account, running, tmp_path, SERVWATCH_INTERVAL="60", **environment)
        agents.append(agent)
        agent.start_fast(FAST, time.time() - 6 * HOUR)
        wait_for(lambda: "kept in memory" in agent.log, agent, "the disk to be full")
        full = len(agent.kept)
        wait_for(lambda: len(agent.kept) > full + 50, agent, "more samples")
        subprocess.run(["mount", "-o", "remount,size=8m", str(folder)], check=True)
        wait_for(lambda: "can be written again" in agent.log, agent, "the disk to have room")
        agent.kill()
        agent.start_fast(FAST, agent.kept[-1] / 1e6 + 10)
        kept = set(agent.kept)
        stack()
        wait_for(lambda: kept <= {each.at for each in samples(account)}, agent, "all of them")
        agent.kill()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    times = [each.at for each in samples(account)]
    assert len(times) == len(set(times))


def test_a_check_says_whether_the_token_is_good_and_leaves_nothing(
    stack: Start, account: Account, tmp_path: Path
) -> None:
    running = stack()
    agent = RunningAgent(account, running, tmp_path, SERVWATCH_CONNECTOR="auto")

    def check() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "servwatch_agent", "--check"]
        return subprocess.run(
            command, env=agent.environment, capture_output=True, text=True, timeout=120, check=False
        )

    good = check()
    assert (good.returncode, good.stdout.count("takes")) == (0, 2), good.stdout
    request = urllib.request.Request(
        running.url("/post_v2/"),
        b"[]",
        {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "another", "Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=60)
    wait_until(RejectedMessage.objects.exists, what="what comes later to be listed")
    listed = RejectedMessage.objects.values_list("device_id", "source", "reason")
    assert [device_id for device_id, *_ in listed] == ["another"], list(listed)
    agent.environment["SERVWATCH_TOKEN"] = "0" * 32
    bad = check()
    assert (bad.returncode, bad.stdout.count("FAILED")) == (1, 2), bad.stdout
