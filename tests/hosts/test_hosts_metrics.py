"""The same host, in the words of each program that measures it."""

from typing import Any

import host_samples as samples
import pytest

from thingscale.hosts.metrics import (
    MAX_LEAVES,
    MAX_NUMBER,
    Gauges,
    Level,
    Metric,
    Sender,
    combine,
    gauges,
    known,
    leaves,
    level,
    pain,
    read,
)

TWICE: dict[Sender, Any] = {
    Sender.AGENT: lambda _seconds: samples.AGENT,
    Sender.TELEGRAF: lambda seconds: [
        (tag, value if "net/" not in tag else {name: n / 10 * seconds for name, n in value.items()})
        for tag, value in samples.TELEGRAF
    ],
    Sender.COLLECTD: lambda _seconds: samples.COLLECTD,
    Sender.NODE_EXPORTER: samples.node_exporter,
    Sender.OPENTELEMETRY: samples.opentelemetry,
    Sender.GLANCES: lambda _seconds: samples.GLANCES,
}


def at(seconds: float, sample: list[tuple[str, Any]]) -> list[tuple[str, float, Any]]:
    return [(tag, seconds, value) for tag, value in sample]


@pytest.mark.parametrize("sender", Sender)
def test_a_host_looks_the_same_whoever_measures_it(sender: Sender) -> None:
    _, _, memory = read(at(100, TWICE[sender](100)), {})
    found, values, _ = read(at(110, TWICE[sender](110)), memory)
    shown = combine(values)
    assert found == sender
    seen = gauges(shown)
    assert seen.is_host
    assert seen.cpu == pytest.approx(12)
    assert seen.memory == pytest.approx(61, abs=1)
    assert seen.disk == pytest.approx(92.5)
    assert seen.disk_name == "/srv/data"
    assert seen.swap == pytest.approx(3)
    assert (seen.load, seen.uptime) == (0.4, 86_400)
    assert {of: number for (metric, of), number in shown.items() if metric == Metric.DISK} == {
        "/": pytest.approx(71),
        "/srv/data": pytest.approx(92.5),
    }
    assert {of: number for (metric, of), number in shown.items() if metric == Metric.NETWORK} == {
        "eth0 in": pytest.approx(1000),
        "eth0 out": pytest.approx(250),
    }


def test_what_grows_has_no_rate_at_first_and_none_below_zero() -> None:
    first, memory = read(at(100, samples.node_exporter(100)), {})[1:]
    assert (Metric.NETWORK, "eth0 in") not in first
    again, same = read(at(100, samples.node_exporter(100)), memory)[1:]
    assert (Metric.NETWORK, "eth0 in") not in again
    assert same == memory
    second, memory = read(at(110, samples.node_exporter(110)), memory)[1:]
    assert second[Metric.NETWORK, "eth0 in"] == pytest.approx(1000)
    restarted, _ = read(at(120, samples.node_exporter(1)), memory)[1:]
    assert restarted[Metric.NETWORK, "eth0 in"] == pytest.approx(1000)  # as it was, until there is a new one


@pytest.mark.parametrize(
    "value",
    [
        {"temp": 21.5, "humid": 40},
        {"cpu": "i5", "memory": "16 GB"},
        {"cpu": {"idle": True}, "memory": {"percent": None}},
        {"cpu": {"idle": 1e300}, "memory": {"percent": -1e300}},
        {"cpu": [1, 2]},
        {"load": {"1": 3}},  # one alone, as a scale may have it
        17,
        "text",
        None,
        [],
    ],
)
def test_what_is_no_host(value: Any) -> None:
    _, values, _ = read([("", 0.0, value)], {})
    assert not gauges(combine(values)).is_host


def test_hostile_values_are_bounded() -> None:
    wide = {f"k{n}": n for n in range(MAX_LEAVES + 100)}
    assert len(list(leaves({"disk": wide}))) == MAX_LEAVES
    assert known("", "disk:" + "x" * 5_000 + ":percent") is None
    assert known("system.cpu.time", "cpu=0," * 10_000) is None
    deep: Any = 1
    for _ in range(10_000):
        deep = {"a": deep}
    assert len(list(leaves(deep))) == 1
    values = read([("", 0.0, {"cpu": {"idle": 10 * MAX_NUMBER, "user": 10**400}})], {})[1]
    assert values == {}


NOTHING = Gauges(None, None, None, "", None, None, None, None)


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        *(("cpu", 79.9, "ok"), ("cpu", 80, "warn"), ("cpu", 95, "bad")),
        *(("disk", 79.9, "ok"), ("disk", 80, "warn"), ("disk", 90, "bad")),
        *(("memory", None, "ok"), ("memory", 85, "warn"), ("memory", 95, "bad")),
    ],
)
def test_levels(name: str, number: float | None, expected: str) -> None:
    assert level(name, number) == Level(expected)


def test_load_is_of_a_core() -> None:
    assert [level("load", 4, cores) for cores in (None, 1, 2, 4)] == ["bad", "bad", "warn", "ok"]


def test_what_hurts_comes_first() -> None:
    worse = [
        NOTHING._replace(disk=97, cpu=99),
        NOTHING._replace(disk=95),
        NOTHING._replace(disk=91),
        NOTHING._replace(disk=85, memory=86),
        NOTHING._replace(disk=85),
        NOTHING._replace(cpu=50),
        NOTHING._replace(cpu=10),
        NOTHING,
    ]
    assert sorted(worse, key=pain, reverse=True) == worse
