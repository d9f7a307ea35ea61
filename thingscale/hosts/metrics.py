"""What a server sends, in the words of each program that measures one -> metrics of ours. Pure.

`TABLE` has a row for each kind of number: where the program puts it (the tag of its datapoints, and the path
in their values), and which metric that is. Gauges, charts and events all go by it, so a host looks the same
whoever measures it. What is in no row is no concern of a host's page.

Programs tell the same thing in different ways: a share of the time, a number of seconds that only grows, used
bytes beside free ones. `combine()` makes one of them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import unquote

MAX_LEAVES = 5_000  # of one value; what is beyond them is not looked at
MAX_KNOWN = 50_000  # places that are remembered
MAX_PATH = 300  # characters of a place that can be one of the table
MAX_NUMBER = 1e18  # nothing of a server is that large, and sums of larger ones may be infinite


class Sender(StrEnum):
    AGENT = "agent"
    TELEGRAF = "telegraf"
    COLLECTD = "collectd"
    NODE_EXPORTER = "node_exporter"
    OPENTELEMETRY = "opentelemetry"
    GLANCES = "glances"


NAMES = {
    Sender.AGENT: "Servwatch agent",
    Sender.TELEGRAF: "Telegraf",
    Sender.COLLECTD: "collectd",
    Sender.NODE_EXPORTER: "node_exporter",
    Sender.OPENTELEMETRY: "OpenTelemetry",
    Sender.GLANCES: "Glances",
}


class Metric(StrEnum):
    # These are what is shown. `of`, behind each, tells the numbers of a metric apart.
    CPU = "cpu"  # % of the time in a state: idle, user, system, iowait, steal, ...
    MEMORY = "memory"  # % that is used
    SWAP = "swap"
    DISK = "disk"  # % that is used of a file system, by where it is mounted
    INODES = "inodes"
    LOAD = "load"  # of 1, 5 and 15 minutes
    NETWORK = "network"  # bytes a second: "eth0 in", "eth0 out"
    IO = "io"  # bytes a second: "sda read", "sda written"
    TEMPERATURE = "temperature"  # °C
    PROCESSES = "processes"
    UPTIME = "uptime"  # seconds
    CORES = "cores"
    # And these are what the former are made of.
    CPU_TIME = "cpu_time"  # of a CPU in a state, in any unit: "0 idle"
    MEMORY_BYTES = "memory_bytes"  # used, free, cached, ..., or total and available
    SWAP_BYTES = "swap_bytes"
    DISK_BYTES = "disk_bytes"  # "used /", "free /", ...
    BOOT = "boot"  # seconds since 1970
    NOW = "now"

    __hash__ = str.__hash__  # an enum's own is written in Python, and each number of each host needs it


class Row(NamedTuple):
    """`tag` and `path` are regular expressions of the whole. Groups called `of`, `and_of` give the number's
    name in the order of the metric's words; percent-encoding is undone."""

    sender: Sender
    tag: str
    path: str
    metric: Metric
    of: str = ""  # with {of} and {and_of}
    grows: bool = False  # a total since the start, of which the rate counts
    factor: float = 1


class Known(NamedTuple):
    """What a place in the values is."""

    sender: Sender
    metric: Metric
    of: str
    grows: bool
    factor: float


Name = tuple[Metric, str]  # a metric, and what of
Values = dict[Name, float]
Memory = dict[str, list[float]]  # of what grows, by its name: time in seconds, number, and last rate or -1

_STATES = r"(?P<of>idle|user|system|nice|iowait|io_wait|wait|steal|irq|softirq|interrupt)"
_ONE = r"[^:]+"  # the only number of a metric, with labels or without
_A, _T, _C = Sender.AGENT, Sender.TELEGRAF, Sender.COLLECTD
_N, _O, _G = Sender.NODE_EXPORTER, Sender.OPENTELEMETRY, Sender.GLANCES

TABLE = (
    # Our agent: one object a sample, without a tag.
    Row(_A, "", f"cpu:{_STATES}", Metric.CPU, "{of}"),
    Row(_A, "", r"cpu:count", Metric.CORES),
    Row(_A, "", r"memory:percent", Metric.MEMORY),
    Row(_A, "", r"swap:percent", Metric.SWAP),
    Row(_A, "", r"disk:(?P<of>[^:]+):percent", Metric.DISK, "{of}"),
    Row(_A, "", r"disk:(?P<of>[^:]+):inodes_percent", Metric.INODES, "{of}"),
    Row(_A, "", r"load:(?P<of>1|5|15)", Metric.LOAD, "{of}"),
    Row(_A, "", r"uptime", Metric.UPTIME),
    Row(_A, "", r"net:(?P<of>[^:]+):(?P<and_of>in|out)", Metric.NETWORK, "{of} {and_of}"),
    Row(_A, "", r"io:(?P<of>[^:]+):read", Metric.IO, "{of} read"),
    Row(_A, "", r"io:(?P<of>[^:]+):write", Metric.IO, "{of} written"),
    Row(_A, "", r"temperature:(?!highest$)(?P<of>[^:]+)", Metric.TEMPERATURE, "{of}"),
    Row(_A, "", r"processes:count", Metric.PROCESSES),
    # Telegraf: the measurement with its tags, and a field.
    Row(_T, r"cpu/cpu=cpu-total", f"usage_{_STATES}", Metric.CPU, "{of}"),
    Row(_T, r"system", r"n_cpus", Metric.CORES),
    Row(_T, r"system", r"load(?P<of>1|5|15)", Metric.LOAD, "{of}"),
    Row(_T, r"system", r"uptime", Metric.UPTIME),
    Row(_T, r"mem", r"used_percent", Metric.MEMORY),
    Row(_T, r"swap", r"used_percent", Metric.SWAP),
    Row(_T, r"disk/(?:.*/)?path=(?P<of>[^/]+)", r"used_percent", Metric.DISK, "{of}"),
    Row(_T, r"disk/(?:.*/)?path=(?P<of>[^/]+)", r"inodes_used_percent", Metric.INODES, "{of}"),
    Row(_T, r"net/interface=(?P<of>[^/]+)", r"bytes_recv", Metric.NETWORK, "{of} in", grows=True),
    Row(_T, r"net/interface=(?P<of>[^/]+)", r"bytes_sent", Metric.NETWORK, "{of} out", grows=True),
    Row(_T, r"diskio/(?:.*/)?name=(?P<of>[^/]+)(?:/.*)?", r"read_bytes", Metric.IO, "{of} read", grows=True),
    Row(
        *(_T, r"diskio/(?:.*/)?name=(?P<of>[^/]+)(?:/.*)?", r"write_bytes", Metric.IO, "{of} written"),
        grows=True,
    ),
    Row(_T, r"temp/sensor=(?P<of>[^/]+)", r"temp", Metric.TEMPERATURE, "{of}"),
    Row(_T, r"processes", r"total", Metric.PROCESSES),
    # collectd: plugin-instance/type-instance. Its CPU times are rates, in ticks.
    Row(_C, r"cpu/percent-(?P<of>[a-z]+)", r"value", Metric.CPU, "{of}"),
    Row(
        _C, r"cpu-(?P<of>\d+)/(?:cpu|percent)-(?P<and_of>[a-z]+)", r"value", Metric.CPU_TIME, "{of} {and_of}"
    ),
    Row(_C, r"memory/memory-(?P<of>\w+)", r"value", Metric.MEMORY_BYTES, "{of}"),
    Row(_C, r"swap/swap-(?P<of>used|free|cached)", r"value", Metric.SWAP_BYTES, "{of}"),
    Row(_C, r"df-(?P<of>[^/]+)/percent_bytes-used", r"value", Metric.DISK, "{of}"),
    Row(_C, r"df-(?P<of>[^/]+)/df_complex-(?P<and_of>\w+)", r"value", Metric.DISK_BYTES, "{and_of} {of}"),
    Row(_C, r"load/load", r"shortterm|0", Metric.LOAD, "1"),
    Row(_C, r"load/load", r"midterm|1", Metric.LOAD, "5"),
    Row(_C, r"load/load", r"longterm|2", Metric.LOAD, "15"),
    Row(_C, r"uptime/uptime", r"value", Metric.UPTIME),
    Row(_C, r"interface-(?P<of>[^/]+)/if_octets", r"rx|0", Metric.NETWORK, "{of} in"),
    Row(_C, r"interface-(?P<of>[^/]+)/if_octets", r"tx|1", Metric.NETWORK, "{of} out"),
    Row(_C, r"disk-(?P<of>[^/]+)/disk_octets", r"read|0", Metric.IO, "{of} read"),
    Row(_C, r"disk-(?P<of>[^/]+)/disk_octets", r"write|1", Metric.IO, "{of} written"),
    Row(_C, r"(?:sensors|thermal)-(?P<of>[^/]+)/temperature(?:-.*)?", r"value", Metric.TEMPERATURE, "{of}"),
    # node_exporter, as Prometheus sends it: labels, and totals.
    Row(
        *(_N, r"node_cpu_seconds_total", r"(?:.*,)?cpu=(?P<of>\d+),(?:.*,)?mode=(?P<and_of>\w+)(?:,.*)?"),
        *(Metric.CPU_TIME, "{of} {and_of}"),
        grows=True,
    ),
    Row(_N, r"node_memory_MemTotal_bytes", _ONE, Metric.MEMORY_BYTES, "total"),
    Row(_N, r"node_memory_MemAvailable_bytes", _ONE, Metric.MEMORY_BYTES, "available"),
    Row(_N, r"node_memory_SwapTotal_bytes", _ONE, Metric.SWAP_BYTES, "total"),
    Row(_N, r"node_memory_SwapFree_bytes", _ONE, Metric.SWAP_BYTES, "available"),
    Row(
        *(_N, r"node_filesystem_size_bytes", r"(?:.*,)?mountpoint=(?P<of>[^,]+)(?:,.*)?"),
        *(Metric.DISK_BYTES, "total {of}"),
    ),
    Row(
        *(_N, r"node_filesystem_avail_bytes", r"(?:.*,)?mountpoint=(?P<of>[^,]+)(?:,.*)?"),
        *(Metric.DISK_BYTES, "available {of}"),
    ),
    Row(_N, r"node_load1", _ONE, Metric.LOAD, "1"),
    Row(_N, r"node_load5", _ONE, Metric.LOAD, "5"),
    Row(_N, r"node_load15", _ONE, Metric.LOAD, "15"),
    Row(_N, r"node_boot_time_seconds", _ONE, Metric.BOOT),
    Row(_N, r"node_time_seconds", _ONE, Metric.NOW),
    Row(
        *(_N, r"node_network_receive_bytes_total", r"(?:.*,)?device=(?P<of>[^,]+)(?:,.*)?"),
        *(Metric.NETWORK, "{of} in"),
        grows=True,
    ),
    Row(
        *(_N, r"node_network_transmit_bytes_total", r"(?:.*,)?device=(?P<of>[^,]+)(?:,.*)?"),
        *(Metric.NETWORK, "{of} out"),
        grows=True,
    ),
    Row(
        *(_N, r"node_disk_read_bytes_total", r"(?:.*,)?device=(?P<of>[^,]+)(?:,.*)?"),
        *(Metric.IO, "{of} read"),
        grows=True,
    ),
    Row(
        *(_N, r"node_disk_written_bytes_total", r"(?:.*,)?device=(?P<of>[^,]+)(?:,.*)?"),
        *(Metric.IO, "{of} written"),
        grows=True,
    ),
    Row(
        *(_N, r"node_hwmon_temp_celsius", r"(?:.*,)?chip=(?P<of>[^,]+),(?:.*,)?sensor=(?P<and_of>\w+)"),
        *(Metric.TEMPERATURE, "{of} {and_of}"),
    ),
    Row(_N, r"node_procs_running", _ONE, Metric.PROCESSES),
    # OpenTelemetry's hostmetrics receiver: attributes, and totals.
    Row(
        *(_O, r"system\.cpu\.time", r"(?:.*,)?cpu=(?:cpu)?(?P<of>\d+),(?:.*,)?state=(?P<and_of>\w+)"),
        *(Metric.CPU_TIME, "{of} {and_of}"),
        grows=True,
    ),
    Row(_O, r"system\.memory\.usage", r"(?:.*,)?state=(?P<of>\w+)", Metric.MEMORY_BYTES, "{of}"),
    Row(_O, r"system\.memory\.utilization", r"state=used", Metric.MEMORY, factor=100),
    Row(_O, r"system\.paging\.usage", r"(?:.*,)?state=(?P<of>\w+)", Metric.SWAP_BYTES, "{of}"),
    Row(
        *(_O, r"system\.filesystem\.usage"),
        r"(?:.*,)?mountpoint=(?P<of>[^,]+),(?:.*,)?state=(?P<and_of>\w+)(?:,.*)?",
        *(Metric.DISK_BYTES, "{and_of} {of}"),
    ),
    Row(_O, r"system\.cpu\.load_average\.1m", _ONE, Metric.LOAD, "1"),
    Row(_O, r"system\.cpu\.load_average\.5m", _ONE, Metric.LOAD, "5"),
    Row(_O, r"system\.cpu\.load_average\.15m", _ONE, Metric.LOAD, "15"),
    Row(_O, r"system\.cpu\.logical\.count", _ONE, Metric.CORES),
    Row(_O, r"system\.uptime", _ONE, Metric.UPTIME),
    Row(
        *(_O, r"system\.network\.io", r"(?:.*,)?device=(?P<of>[^,]+),(?:.*,)?direction=receive"),
        *(Metric.NETWORK, "{of} in"),
        grows=True,
    ),
    Row(
        *(_O, r"system\.network\.io", r"(?:.*,)?device=(?P<of>[^,]+),(?:.*,)?direction=transmit"),
        *(Metric.NETWORK, "{of} out"),
        grows=True,
    ),
    Row(
        *(_O, r"system\.disk\.io", r"(?:.*,)?device=(?P<of>[^,]+),(?:.*,)?direction=read"),
        *(Metric.IO, "{of} read"),
        grows=True,
    ),
    Row(
        *(_O, r"system\.disk\.io", r"(?:.*,)?device=(?P<of>[^,]+),(?:.*,)?direction=write"),
        *(Metric.IO, "{of} written"),
        grows=True,
    ),
    # Glances: a plugin is a tag.
    Row(_G, r"cpu", _STATES, Metric.CPU, "{of}"),
    Row(_G, r"cpu", r"cpucore", Metric.CORES),
    Row(_G, r"mem", r"percent", Metric.MEMORY),
    Row(_G, r"memswap", r"percent", Metric.SWAP),
    Row(_G, r"fs", r"(?P<of>/.*)\.percent", Metric.DISK, "{of}"),
    Row(_G, r"load", r"min(?P<of>1|5|15)", Metric.LOAD, "{of}"),
    Row(_G, r"uptime", r"seconds", Metric.UPTIME),
    Row(_G, r"network", r"(?P<of>.+)\.bytes_recv_rate_per_sec", Metric.NETWORK, "{of} in"),
    Row(_G, r"network", r"(?P<of>.+)\.bytes_sent_rate_per_sec", Metric.NETWORK, "{of} out"),
    Row(_G, r"diskio", r"(?P<of>.+)\.read_bytes_rate_per_sec", Metric.IO, "{of} read"),
    Row(_G, r"diskio", r"(?P<of>.+)\.write_bytes_rate_per_sec", Metric.IO, "{of} written"),
    Row(_G, r"sensors", r"(?P<of>.+)\.value", Metric.TEMPERATURE, "{of}"),
    Row(_G, r"processcount", r"total", Metric.PROCESSES),
)
_COMPILED = [(row, re.compile(row.tag), re.compile(row.path)) for row in TABLE]
# Of the tags that have something of a host: for PostgreSQL, which names no groups.
FACTS = "facts"  # the tag of what our agent says of the machine, where it can't be the device's state
_TAGS = sorted({re.sub(r"\(\?P<\w+>", "(?:", row.tag) for row in TABLE if row.tag})
TAGS = f"^(?:{'|'.join([FACTS, *_TAGS])})$"
# The keys of an object without a tag by which it may be one of our agent's.
AGENT_KEYS = ("cpu", "memory", "load", "disk")
# Interfaces and disks that say nothing of the machine, or the same as another one.
_LEFT_OUT = re.compile(r"(?:lo|ifb\d+|veth.*|docker\d+|br-.*|virbr.*|loop\d+|ram\d+|dm-\d+|zram\d+|sr\d+)")
_NO_DISK = re.compile(r"/(?:proc|sys|dev|run|snap|boot/efi|var/lib/docker)(?:/.*)?")
_SAME_STATE = {"io_wait": "iowait", "wait": "iowait", "interrupt": "irq"}
# Of memory in parts, what programs need and what is lent to caches.
_FREE = {"free", "buffered", "cached", "slab_recl", "slab_reclaimable", "buffers", "inactive"}
_NO_PART = {"total", "available", "slab_recl", "slab_reclaimable", "slab_unrecl", "slab_unreclaimable"}

_known: dict[tuple[str, str], Known | None] = {}


def known(tag: str, path: str) -> Known | None:
    """What the number at this path of this tag is, if a host's page has use for it; "" is no tag."""
    if len(path) > MAX_PATH:
        return None
    place = tag, path
    try:
        return _known[place]
    except KeyError:
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        found = _known[place] = _look_up(tag, path)
        return found


def _look_up(tag: str, path: str) -> Known | None:
    for row, of_tag, of_path in _COMPILED:
        in_tag, in_path = of_tag.fullmatch(tag), of_path.fullmatch(path)
        if in_tag is None or in_path is None:
            continue
        groups = {name: unquote(text) for name, text in (in_tag.groupdict() | in_path.groupdict()).items()}
        groups = {name: _SAME_STATE.get(text, text) for name, text in groups.items()}
        first = groups.get("of", "")
        if row.metric in {Metric.NETWORK, Metric.IO} and _LEFT_OUT.fullmatch(first):
            return None
        if row.metric in {Metric.DISK, Metric.DISK_BYTES, Metric.INODES} and _NO_DISK.fullmatch(first):
            return None
        if row.sender == Sender.COLLECTD and row.metric in {Metric.DISK, Metric.DISK_BYTES}:
            groups["of"] = "/" if first == "root" else "/" + first.replace("-", "/")
        return Known(row.sender, row.metric, row.of.format(**groups), row.grows, row.factor)
    return None


def leaves(value: Any) -> Iterator[tuple[str, float]]:
    """The numbers of a value, each with its path. A bare one is at `value`."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return
    if isinstance(value, (int, float)):
        yield "value", value
        return
    below: list[tuple[str, Any]] = [("", value)]
    count = 0
    while below:
        above, inner = below.pop()
        if not isinstance(inner, dict):
            continue
        for key, each in inner.items():
            kind = type(each)
            if kind is float or kind is int:
                count += 1
                if count > MAX_LEAVES:
                    return
                yield f"{above}{key}", each
            elif kind is dict:
                below.append((f"{above}{key}:", each))


def read(
    newest: Iterable[tuple[str, float, Any]], before: Mapping[str, list[float]]
) -> tuple[Sender | None, Values, Memory]:
    """Of the newest values (tag, time in seconds, value) of a host, who sends them, and what they are worth.
    `before`: what grows, as it was the last time."""
    senders: dict[Sender, int] = {}
    found: Values = {}
    memory: Memory = {}
    for tag, at, value in newest:
        for path, leaf in leaves(value):
            what = known(tag, path)
            if what is None or not -MAX_NUMBER < leaf < MAX_NUMBER:
                continue
            senders[what.sender] = senders.get(what.sender, 0) + 1
            name = what.metric, what.of
            number = float(leaf)
            if not what.grows:
                found[name] = number * what.factor
                continue
            key = f"{what.metric} {what.of}"
            memory[key] = now = grown(before.get(key), at, number)
            if now[2] >= 0:
                found[name] = now[2] * what.factor
    sender = max(senders, key=lambda each: senders[each]) if senders else None
    return sender, found, memory


def grown(before: list[float] | None, at: float, number: float) -> list[float]:
    """What is remembered of a total, with its rate since the last time; after a restart the last rate."""
    if before is None:
        return [at, number, -1]
    then, last, rate = before
    if at <= then:  # nothing new
        return list(before)
    return [at, number, (number - last) / (at - then) if number >= last else rate]


_PARTS = frozenset(
    {
        *(Metric.CPU_TIME, Metric.MEMORY_BYTES, Metric.SWAP_BYTES, Metric.DISK_BYTES),
        *(Metric.BOOT, Metric.NOW),
    }
)


def combine(values: Mapping[Name, float]) -> Values:
    """What is shown, of what was read at one time."""
    shown: Values = {}
    cpus: dict[str, float] = {}
    cores: set[str] = set()
    memory: dict[str, float] = {}
    swap: dict[str, float] = {}
    disks: dict[str, dict[str, float]] = {}
    clocks: dict[Metric, float] = {}
    for (metric, of), number in values.items():
        if metric not in _PARTS:
            shown[metric, of] = number
            continue
        match metric:
            case Metric.CPU_TIME:
                cpu, _, state = of.partition(" ")
                cores.add(cpu)
                cpus[state] = cpus.get(state, 0.0) + number
            case Metric.MEMORY_BYTES:
                memory[of] = number
            case Metric.SWAP_BYTES:
                swap[of] = swap.get(of, 0.0) + number
            case Metric.DISK_BYTES:
                state, _, mount = of.partition(" ")
                disks.setdefault(mount, {})[state] = number
            case _:
                clocks[metric] = number
    if whole := sum(cpus.values()):
        shown |= {(Metric.CPU, state): 100 * number / whole for state, number in cpus.items()}
    if cores:
        shown.setdefault((Metric.CORES, ""), float(len(cores)))
    for metric, parts in ((Metric.MEMORY, memory), (Metric.SWAP, swap)):
        if parts and (percent := _used(parts)) is not None:
            shown.setdefault((metric, ""), percent)
    for mount, parts in disks.items():
        if (percent := _used(parts)) is not None:
            shown.setdefault((Metric.DISK, mount), percent)
    if len(clocks) == 2:
        shown[Metric.UPTIME, ""] = clocks[Metric.NOW] - clocks[Metric.BOOT]
    return shown


def _used(parts: Mapping[str, float]) -> float | None:
    """% that is used, of parts in bytes."""
    if "total" in parts and "available" in parts:
        whole = parts["total"]
        return 100 * (whole - parts["available"]) / whole if whole > 0 else None
    counted = {name: number for name, number in parts.items() if name not in _NO_PART}
    whole = sum(counted.values())
    if "used" not in counted or whole <= 0:
        return None
    # What only root may use counts as used, as df has it.
    return 100 * (whole - sum(number for name, number in counted.items() if name in _FREE)) / whole


class Gauges(NamedTuple):
    """What the list of hosts shows; None: it is not known."""

    cpu: float | None  # % that is busy
    memory: float | None
    disk: float | None  # of the fullest file system
    disk_name: str
    swap: float | None
    load: float | None  # of a minute
    cores: float | None
    uptime: float | None

    @property
    def is_host(self) -> bool:
        """Whether what was read is of a machine, and not of a thing that has a key of the same name."""
        return sum(each is not None for each in (self.cpu, self.memory, self.disk, self.load)) >= 2


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    BAD = "bad"


# Where a gauge is yellow and where it is red; load is of one core.
LIMITS = {"cpu": (80, 95), "memory": (85, 95), "disk": (80, 90), "swap": (50, 80), "load": (1.5, 3)}
POINTS = {Level.BAD: 100, Level.WARN: 10, Level.OK: 0}
SILENT = 1000  # points of a host that is not heard


def gauges(shown: Mapping[Name, float]) -> Gauges:
    idle = shown.get((Metric.CPU, "idle"))
    disk = Metric.DISK
    disks = {of: number for (metric, of), number in shown.items() if metric is disk}
    fullest = max(disks, key=lambda name: disks[name], default="")
    return Gauges(
        cpu=None if idle is None else min(100.0, max(0.0, 100 - idle)),
        memory=shown.get((Metric.MEMORY, "")),
        disk=disks.get(fullest),
        disk_name=fullest,
        swap=shown.get((Metric.SWAP, "")),
        load=shown.get((Metric.LOAD, "1")),
        cores=shown.get((Metric.CORES, "")),
        uptime=shown.get((Metric.UPTIME, "")),
    )


def level(name: str, number: float | None, cores: float | None = None) -> Level:
    if number is None:
        return Level.OK
    warn, bad = LIMITS[name]
    if name == "load":
        number /= cores or 1
    return Level.BAD if number >= bad else Level.WARN if number >= warn else Level.OK


def pain(found: Gauges) -> float:
    """How much it hurts: what is red before what is yellow, and of the same colours the one that is nearer to
    its end."""
    points, nearest = 0.0, 0.0
    for name in LIMITS:
        number = getattr(found, name)
        points += POINTS[level(name, number, found.cores)]
        if number is not None and name != "load":
            nearest = max(nearest, number)
    return points + min(nearest, 100) / 100
