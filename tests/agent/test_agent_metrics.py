"""What a sample has, on this machine and on stranger ones."""

import asyncio
import json
import queue
import threading
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import psutil
import pytest
from servwatch_agent import agent as agent_module
from servwatch_agent import background, facts, metrics
from servwatch_agent.agent import Agent, Measuring
from servwatch_agent.background import Background, Worker
from servwatch_agent.buffer import Buffer
from servwatch_agent.clock import Clock
from servwatch_agent.config import Config
from servwatch_agent.metrics import Metrics, Processes, Rates

TOKEN = "0123456789ABCDEF" * 2


def leaves(value: Any) -> int:
    return sum(map(leaves, value.values())) if isinstance(value, dict) else 1


def test_this_machine() -> None:
    measured = Metrics()
    measured.measure()
    time.sleep(0.2)
    sample = measured.measure()
    assert sample.keys() >= {"uptime", "cpu", "load", "memory", "users"}
    cpu = sample["cpu"]
    states = {state: share for state, share in cpu.items() if state not in ("count", "core")}
    assert {"user", "system", "idle", "iowait", "steal"} <= states.keys()
    assert sum(states.values()) == pytest.approx(100, abs=0.5)
    assert len(cpu["core"]) == cpu["count"] == psutil.cpu_count()
    assert 0 < sample["memory"]["percent"] < 100
    disk = metrics.file_systems()
    if disk:
        assert disk["fullest"] == max(each["percent"] for each in disk.values() if isinstance(each, dict))
    assert leaves(sample) + leaves(disk or {}) > 30
    json.dumps(sample, allow_nan=False)


def test_processes_are_counted_by_name_and_tell_no_arguments() -> None:
    processes = Processes()
    assert "cpu" not in processes.measure()
    deadline = time.process_time() + 0.2
    while time.process_time() < deadline:
        pass
    found = processes.measure()
    assert found["count"] > 0
    assert found["cpu"]
    assert len(found["cpu"]) <= metrics.TOP
    assert len(found["memory"]) <= metrics.TOP
    assert list(found["cpu"].values()) == sorted(found["cpu"].values(), reverse=True)
    assert "tests/agent" not in json.dumps(found)


def test_facts() -> None:
    found = facts.gather("127.0.0.1", 1883)
    assert found.keys() >= {"os", "kernel", "architecture", "cores", "memory", "address", "boot", "agent"}
    assert found["address"] == "127.0.0.1"
    assert facts.gather("no.such.host.invalid", 1).keys() >= {"os", "kernel"}


@pytest.mark.parametrize(
    "error", [psutil.AccessDenied(), OSError(13, "no"), NotImplementedError(), AttributeError()]
)
def test_what_may_not_be_read_is_left_out(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    for name in ("virtual_memory", "users", "sensors_temperatures", "disk_io_counters", "net_io_counters"):
        monkeypatch.setattr(psutil, name, refuse)
    found = Metrics().measure()
    assert found.keys() >= {"cpu", "load"}
    assert not found.keys() & {"memory", "users", "temperature", "io", "net"}


Nic = namedtuple("Nic", "bytes_sent bytes_recv packets_sent packets_recv errin errout dropin dropout")


def test_interfaces_by_their_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    counters = {
        "lo": Nic(*[1000] * 8),
        "veth12": Nic(*[1000] * 8),
        "eth0:1": Nic(1000, 2000, 10, 20, 1, 1, 2, 2),
        **{f"dummy{n}": Nic(*[1] * 8) for n in range(100)},
    }
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: counters)
    measured = Metrics()
    assert "net" not in measured.measure()
    now[0] += 10
    counters["eth0:1"] = Nic(2000, 5000, 20, 50, 2, 2, 4, 4)
    net = measured.measure()["net"]
    assert "lo" not in net
    assert "veth12" not in net
    assert len(net) <= metrics.MOST
    assert net["eth0_1"] == {
        "in": 300, "out": 100, "packets_in": 3, "packets_out": 1, "errors": 0.2, "drops": 0.4
    }  # fmt: skip


def test_a_counter_that_begins_again_has_no_rate() -> None:
    rates = Rates()
    assert rates.of("a", 100, 1) is None
    assert rates.of("a", 110, 2) == 10
    assert rates.of("a", 5, 3) is None
    assert rates.of("a", 6, 3) is None, "no time passed"
    assert rates.of("a", 7, 4) == 1


def test_what_hangs_beside_delays_no_sample() -> None:
    hanging, end = threading.Event(), threading.Event()

    def hang() -> dict[str, int]:
        hanging.set()
        end.wait(60)
        return {"up": 1}

    each = Background("hangs", hang, lambda: 0.0, late={"up": 0})
    assert hanging.wait(60)
    assert each.latest() is None
    each._started_at -= 25
    assert each.latest() == {"up": 0}, "overdue"
    end.set()


def test_what_fails_beside_is_left_out_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    results: list[Any] = [OSError("gone"), OSError("gone"), {"up": 1}]

    def measure() -> Any:
        result = results.pop(0) if len(results) > 1 else results[0]
        if isinstance(result, Exception):
            raise result
        return result

    each = Background("disk", measure, lambda: 0.01)
    deadline = time.monotonic() + 60
    while each.latest() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [record.getMessage() for record in caplog.records] == ["disk can't be measured: OSError: gone"]


def test_a_worker_that_hangs_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MOST_JOBS", 2)
    end = threading.Event()
    done: list[int] = []

    async def scenario() -> None:
        worker = Worker("test")
        with pytest.raises(asyncio.TimeoutError):
            await worker.call(0.05, end.wait, 60)
        for number in range(2):
            with pytest.raises(asyncio.TimeoutError):
                await worker.call(0.01, done.append, number)
        with pytest.raises(queue.Full):
            await worker.call(0.01, done.append, 2)
        end.set()
        deadline = time.monotonic() + 60
        while done != [0, 1]:  # what waited is done later, in order
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        await worker.call(60, done.append, 3)

    asyncio.run(scenario())
    assert done == [0, 1, 3]


class SetClock(Clock):
    """Is set while it runs."""

    def __init__(self, *times: float) -> None:
        self.times = list(times)

    def wall(self) -> float:
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]


def agent(folder: Path, clock: Clock) -> Agent:
    return Agent(Config("127.0.0.1", "U000001", TOKEN, "h", buffer=folder), lambda: None, clock)


def test_a_clock_that_is_set_back_gives_no_time_twice(tmp_path: Path) -> None:
    async def times() -> list[str]:
        made = agent(tmp_path, SetClock(1.8e9, 1.8e9 + 10, 1.8e9, 1.8e9 + 10, 1.8e9, 1.8e9 + 0.000001))
        return [made._time() for _ in range(6)]

    found = asyncio.run(times())
    assert len(set(found)) == 6
    assert found[0] == "2027-01-15T08:00:00.000000Z"
    assert found[2] == "2027-01-15T08:00:00.000001Z"


def test_before_the_clock_is_set_there_are_no_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> Buffer:
        made = agent(tmp_path, SetClock(30.0))
        measuring = asyncio.ensure_future(made._measure())
        await asyncio.wait({measuring}, timeout=0.1)
        assert not measuring.done()
        assert made.buffer.waiting == 0
        measuring.cancel()
        return made.buffer

    asyncio.run(scenario())
    assert "clock of this machine is not set" in caplog.text


def test_all_of_a_sample(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What hangs in psutil costs a sample its groups, not the samples."""
    monkeypatch.setattr(agent_module, "MEASURE_SECONDS", 0.05)
    config = Config("127.0.0.1", "U000001", TOKEN, "h", buffer=tmp_path)
    end = threading.Event()

    async def scenario() -> None:
        measuring = Measuring(config, lambda: 10.0)
        measuring.wait(60)
        sample = await measuring.sample()
        assert sample.keys() >= {"cpu", "processes"}
        measuring._metrics.measure = end.wait  # type: ignore[assignment]
        assert (await measuring.sample()).keys() >= {"processes"}

    asyncio.run(scenario())
    end.set()
