"""What the page of a host shows beside its charts: file systems, checks, services, and what is busy. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from thingscale.hosts.metrics import Level, Metric, Values, level

MOST = 64  # of each list, and characters of a name, are shown
CERTIFICATE_DAYS = (30, 14)  # left, where it is yellow and where it is red


class Disk(NamedTuple):
    name: str
    percent: float
    level: Level
    inodes: float | None


class Check(NamedTuple):
    name: str
    up: bool
    ms: float | None
    certificate_days: float | None
    certificate_level: Level


class Unit(NamedTuple):
    name: str
    active: bool
    restarts: int


class Process(NamedTuple):
    name: str
    number: float  # % of a core, or bytes


class Details(NamedTuple):
    disks: list[Disk]
    checks: list[Check]
    units: list[Unit]
    failed_units: float | None
    by_cpu: list[Process]
    by_memory: list[Process]
    waiting: float | None  # samples that the agent still has to send
    dropped: float | None


def details(values: Values, sample: Any) -> Details:
    """`values`: what is shown of the newest ones; `sample`: that of our agent, if it is one."""
    whole = _object(sample)
    units, checks, processes = (_object(whole.get(name)) for name in ("units", "checks", "processes"))
    agent = _object(whole.get("agent"))
    disks = [
        Disk(name, number, level("disk", number), values.get((Metric.INODES, name)))
        for (metric, name), number in values.items()
        if metric == Metric.DISK
    ]
    return Details(
        disks=sorted(disks, key=lambda disk: -disk.percent)[:MOST],
        checks=[_check(name, each) for name, each in list(checks.items())[:MOST] if isinstance(each, dict)],
        units=[
            Unit(name[:MOST], each.get("active") in {1}, round(_number(each.get("restarts")) or 0))
            for name, each in list(units.items())[:MOST]
            if isinstance(each, dict)
        ],
        failed_units=_number(units.get("failed")),
        by_cpu=_processes(processes.get("cpu")),
        by_memory=_processes(processes.get("memory")),
        waiting=_number(agent.get("waiting")),
        dropped=_number(agent.get("dropped")),
    )


def _check(name: str, each: Mapping[str, Any]) -> Check:
    days = _number(each.get("certificate_days"))
    warn, bad = CERTIFICATE_DAYS
    of_days = Level.OK if days is None or days >= warn else Level.BAD if days < bad else Level.WARN
    return Check(name[:MOST], each.get("up") in {1}, _number(each.get("ms")), days, of_days)


def _processes(found: Any) -> list[Process]:
    numbers = [
        Process(name[:MOST], number)
        for name, each in list(_object(found).items())[:MOST]
        if (number := _number(each)) is not None
    ]
    return sorted(numbers, key=lambda process: -process.number)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    return float(value) if type(value) in {int, float} and abs(value) < 1e18 else None
