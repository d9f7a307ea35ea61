"""What psutil says about the machine, as one JSON object (README.md has each key with its unit).

What a machine does not have, or an ordinary user may not see, is left out.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

MOST = 64  # disks, interfaces and the like
MOST_CORES = 256
TOP = 5  # processes
IMAGES = {"squashfs", "iso9660", "erofs", "cramfs", "udf"}  # always full
Group = Any  # JSON


class Rates:
    """How fast counters go up: the mean since the call before, by name."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, float]] = {}

    def of(self, name: str, count: float, now: float) -> float | None:
        """None the first time, and when the counter began again."""
        before = self._before.get(name)
        self._before[name] = count, now
        if before is None or now <= before[1] or count < before[0]:
            return None
        return (count - before[0]) / (now - before[1])

    def of_all(self, prefix: str, counts: Mapping[str, float], now: float) -> dict[str, float]:
        rates = {key: self.of(f"{prefix}:{key}", count, now) for key, count in counts.items()}
        return {key: round(rate, 1) for key, rate in rates.items() if rate is not None}


class Metrics:
    """What is read at once. For one thread."""

    def __init__(self) -> None:
        self._rates = Rates()
        self._cpu: dict[str, Any] = {}  # times of before, of all processors and each

    def measure(self) -> dict[str, Group]:
        """All groups that there are."""
        groups: dict[str, Callable[[], Group]] = {
            "uptime": lambda: round(time.time() - psutil.boot_time()),
            "cpu": self._processors,
            "load": _load,
            "memory": _memory,
            "swap": self._swap,
            "io": self._disk_traffic,
            "net": self._network,
            "temperature": _temperatures,
            "users": lambda: len(psutil.users()),
        }
        found = {}
        for name, read in groups.items():
            try:
                value = read()
            except (psutil.Error, OSError, AttributeError, NotImplementedError, RuntimeError, ValueError):
                continue  # not on this system, or not for this user
            if value is not None and value != {}:
                found[name] = value
        return found

    def _processors(self) -> Group:
        group: dict[str, Group] = {}
        if states := self._share("all", psutil.cpu_times()):
            group.update(states)
        group["count"] = psutil.cpu_count()
        busy = {}
        for number, times in enumerate(psutil.cpu_times(percpu=True)[:MOST_CORES]):
            if states := self._share(str(number), times):
                busy[str(number)] = round(100 - states["idle"] - states.get("iowait", 0.0), 1)
        if busy:
            group["core"] = busy
        return group

    def _share(self, name: str, times: Any) -> dict[str, float]:
        """% of each state since before. A guest's time is in `user` already."""
        now = {state: getattr(times, state) for state in times._fields if not state.startswith("guest")}
        before = self._cpu.get(name)
        self._cpu[name] = now
        if before is None:
            return {}
        spent = {state: max(0.0, seconds - before.get(state, 0.0)) for state, seconds in now.items()}
        total = sum(spent.values())
        return {state: round(100 * seconds / total, 2) for state, seconds in spent.items()} if total else {}

    def _swap(self) -> Group:
        swap = psutil.swap_memory()
        if not swap.total:
            return None
        return {
            "total": swap.total,
            "used": swap.used,
            "free": swap.free,
            "percent": swap.percent,
            **self._rates.of_all("swap", {"in": swap.sin, "out": swap.sout}, time.monotonic()),
        }

    def _disk_traffic(self) -> Group:
        now, group = time.monotonic(), {}
        for name, disk in sorted(psutil.disk_io_counters(perdisk=True).items()):
            if not _is_whole_disk(name) or not (disk.read_count or disk.write_count):
                continue
            counts = {
                "read": disk.read_bytes,
                "write": disk.write_bytes,
                "reads": disk.read_count,
                "writes": disk.write_count,
                "busy": getattr(disk, "busy_time", 0) / 10,  # ms in a second -> %
            }
            if rates := self._rates.of_all(f"io {name}", counts, now):
                if "busy" in rates:
                    rates["busy"] = min(100.0, rates["busy"])
                group[key(name)] = rates
        return _some(group)

    def _network(self) -> Group:
        now, group = time.monotonic(), {}
        interfaces = psutil.net_io_counters(pernic=True).items()
        for name, each in sorted(interfaces, key=lambda item: -item[1].bytes_recv - item[1].bytes_sent):
            if name == "lo" or name.startswith("veth") or not each.bytes_recv + each.bytes_sent:
                continue  # containers have veth by the hundred
            counts = {
                "in": each.bytes_recv,
                "out": each.bytes_sent,
                "packets_in": each.packets_recv,
                "packets_out": each.packets_sent,
                "errors": each.errin + each.errout,
                "drops": each.dropin + each.dropout,
            }
            if rates := self._rates.of_all(f"net {name}", counts, now):
                group[key(name)] = rates
        return _some(group)


def _load() -> Group:
    one, five, fifteen = os.getloadavg()
    return {
        "1": round(one, 2),
        "5": round(five, 2),
        "15": round(fifteen, 2),
        "per_core": round(one / (psutil.cpu_count() or 1), 3),
    }


def _memory() -> Group:
    memory = psutil.virtual_memory()
    kept = ("total", "available", "used", "free", "buffers", "cached", "percent")
    return {name: getattr(memory, name) for name in kept if hasattr(memory, name)}


def _temperatures() -> Group:
    group: dict[str, float] = {}
    for chip, sensors in sorted(psutil.sensors_temperatures().items()):
        for number, sensor in enumerate(sensors):
            if -100 < sensor.current < 200 and sensor.current != 0:  # else it is not connected
                name = key(f"{chip}_{sensor.label or number}".replace(" ", "_"))
                group[name] = round(sensor.current, 1)
    return {"highest": max(group.values()), **_some(group)} if group else None


def file_systems() -> Group:
    """May hang, where a disk is gone."""
    group: dict[str, Group] = {}
    devices = set()
    for part in psutil.disk_partitions(all=False):
        if part.fstype in IMAGES or part.device in devices:
            continue  # an image, or mounted at a second place
        try:
            found = os.statvfs(part.mountpoint)
        except OSError:
            continue  # not for this user
        if not found.f_blocks:
            continue
        devices.add(part.device)
        used, usable = found.f_blocks - found.f_bfree, found.f_blocks - found.f_bfree + found.f_bavail
        space = {
            "total": found.f_blocks * found.f_frsize,
            "used": used * found.f_frsize,
            "free": found.f_bavail * found.f_frsize,
            "percent": round(100 * used / usable, 1) if usable else 100.0,
        }
        if found.f_files:  # not all file systems count them
            space["inodes_percent"] = round(100 * (found.f_files - found.f_ffree) / found.f_files, 1)
        group[key(part.mountpoint)] = space
    if not group:
        return None
    worst: dict[str, Group] = {"fullest": max(each["percent"] for each in group.values())}
    inodes = [each["inodes_percent"] for each in group.values() if "inodes_percent" in each]
    if inodes:
        worst["inodes_fullest"] = max(inodes)
    return {**worst, **_some(group)}


class Processes:
    """For one thread."""

    def __init__(self) -> None:
        self._before: dict[tuple[int, float], float] = {}  # seconds of processor time
        self._measured_at = 0.0

    def measure(self) -> Group:
        """Names only, never arguments: these may hold secrets."""
        now = time.monotonic()
        passed, self._measured_at = now - self._measured_at, now
        cpu: dict[str, float] = defaultdict(float)
        memory: dict[str, int] = defaultdict(int)
        states: dict[str, int] = defaultdict(int)
        seen: dict[tuple[int, float], float] = {}
        for process in psutil.process_iter(["name", "status", "cpu_times", "memory_info", "create_time"]):
            info = process.info
            states[info["status"]] += 1
            name = key(info["name"] or "?")[:64]
            if info["memory_info"]:
                memory[name] += info["memory_info"].rss
            if info["cpu_times"]:
                which = process.pid, info["create_time"]
                seen[which] = info["cpu_times"].user + info["cpu_times"].system
                if which in self._before:
                    cpu[name] += 100 * (seen[which] - self._before[which]) / passed
        first, self._before = not self._before, seen
        group = {
            "count": sum(states.values()),
            "running": states[psutil.STATUS_RUNNING],
            "zombies": states[psutil.STATUS_ZOMBIE],
            "memory": _top(memory.items()),
        }
        if not first:
            group["cpu"] = _top((name, round(share, 1)) for name, share in cpu.items())
        return group


def _top(usage: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return dict(sorted((each for each in usage if each[1] > 0), key=lambda each: -each[1])[:TOP])


def _some(group: dict[str, Any]) -> dict[str, Any]:
    return dict(list(group.items())[:MOST])


def _is_whole_disk(name: str) -> bool:
    if name.startswith(("loop", "ram", "zram", "dm-", "md")):  # what is on it counts the same again
        return False
    return not Path("/sys/block").is_dir() or Path("/sys/block", name.replace("/", "!")).exists()


def key(name: str) -> str:
    """Of an event's source a colon parts the steps. Names are bytes of any kind to the system."""
    return name.encode(errors="replace").decode().replace(":", "_").replace("\0", "_")
