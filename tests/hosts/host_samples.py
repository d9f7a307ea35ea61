"""What programs send of a host, as it is stored: (tag, value)."""

from typing import Any

GIB = 2**30

AGENT: list[tuple[str, Any]] = [
    (
        "",
        {
            "interval": 10,
            "uptime": 86_400,
            "cpu": {"idle": 88.0, "user": 9.0, "system": 2.5, "iowait": 0.5, "count": 4, "core": {"0": 12}},
            "load": {"1": 0.4, "5": 0.6, "15": 0.5, "per_core": 0.1},
            "memory": {"percent": 61.0, "total": 16 * GIB, "used": 9 * GIB},
            "swap": {"percent": 3.0, "used": 10},
            "disk": {
                "fullest": 92.5,
                "/": {"total": 100, "percent": 71.0, "inodes_percent": 5.0},
                "/srv/data": {"total": 100, "percent": 92.5},
            },
            "io": {"sda": {"read": 4096.0, "write": 8192.0, "busy": 2.5}},
            "net": {"eth0": {"in": 1000.0, "out": 250.0, "packets_in": 9.0}},
            "processes": {"count": 121, "running": 1, "cpu": {"postgres": 31.5}, "memory": {"postgres": GIB}},
            "temperature": {"highest": 51.0, "coretemp_Package_id_0": 51.0},
            "units": {"failed": 0, "nginx.service": {"active": 1, "restarts": 0}},
            "checks": {"failed": 0, "shop": {"up": 1, "ms": 12.5, "status": 200, "certificate_days": 50}},
        },
    )
]
TELEGRAF: list[tuple[str, Any]] = [
    ("cpu/cpu=cpu0", {"usage_idle": 1.0}),
    ("cpu/cpu=cpu-total", {"usage_idle": 88.0, "usage_user": 9.0, "usage_system": 3.0}),
    ("mem", {"used_percent": 61.0}),
    ("swap", {"used_percent": 3.0}),
    ("disk/device=sda1/fstype=ext4/mode=rw/path=%2F", {"used_percent": 71.0}),
    ("disk/device=sdb1/fstype=xfs/mode=rw/path=%2Fsrv%2Fdata", {"used_percent": 92.5}),
    ("system", {"load1": 0.4, "load5": 0.6, "load15": 0.5, "n_cpus": 4, "uptime": 86_400}),
    ("net/interface=eth0", {"bytes_recv": 10_000, "bytes_sent": 2_500}),
    ("docker", {"n_containers": 3}),
]
COLLECTD: list[tuple[str, Any]] = [
    *(
        (f"cpu-{cpu}/cpu-{state}", ticks)
        for cpu in (0, 1)
        for state, ticks in (("idle", 88.0), ("user", 12.0))
    ),
    ("memory/memory-used", 61.0 * GIB),
    ("memory/memory-free", 20.0 * GIB),
    ("memory/memory-cached", 19.0 * GIB),
    ("memory/memory-slab_unrecl", 1.0 * GIB),
    ("swap/swap-used", 3.0),
    ("swap/swap-free", 97.0),
    ("df-root/df_complex-used", 71.0),
    ("df-root/df_complex-free", 29.0),
    ("df-srv-data/df_complex-used", 90.0),
    ("df-srv-data/df_complex-reserved", 2.5),
    ("df-srv-data/df_complex-free", 7.5),
    ("load/load", {"shortterm": 0.4, "midterm": 0.6, "longterm": 0.5}),
    ("interface-eth0/if_octets", {"rx": 1000.0, "tx": 250.0}),
    ("uptime/uptime", 86_400.0),
]


def node_exporter(seconds: float) -> list[tuple[str, Any]]:
    """So long after a start."""
    return [
        (
            "node_cpu_seconds_total",
            {f"cpu={cpu},mode={mode}": part * seconds for cpu in (0, 1) for mode, part in _PARTS},
        ),
        ("node_memory_MemTotal_bytes", 100.0 * GIB),
        ("node_memory_MemAvailable_bytes", 39.0 * GIB),
        ("node_memory_SwapTotal_bytes", 100.0),
        ("node_memory_SwapFree_bytes", 97.0),
        ("node_filesystem_size_bytes", {_fs("/"): 100.0, _fs("/srv/data"): 200.0, _fs("/run/user"): 1.0}),
        ("node_filesystem_avail_bytes", {_fs("/"): 29.0, _fs("/srv/data"): 15.0, _fs("/run/user"): 0.0}),
        ("node_load1", 0.4),
        ("node_load5", 0.6),
        ("node_load15", 0.5),
        ("node_boot_time_seconds", 1e9 - 86_400),
        ("node_time_seconds", 1e9),
        ("node_network_receive_bytes_total", {"device=eth0": 1000.0 * seconds, "device=lo": 9e9}),
        ("node_network_transmit_bytes_total", {"device=eth0": 250.0 * seconds, "device=lo": 9e9}),
        ("node_scrape_collector_success", {"collector=cpu": 1.0}),
    ]


def opentelemetry(seconds: float) -> list[tuple[str, Any]]:
    return [
        (
            "system.cpu.time",
            {f"cpu=cpu{cpu},state={mode}": part * seconds for cpu in (0, 1) for mode, part in _PARTS},
        ),
        (
            "system.memory.usage",
            {"state=used": 61, "state=free": 20, "state=cached": 17, "state=buffered": 2},
        ),
        ("system.paging.usage", {"device=/swap,state=used": 3, "device=/swap,state=free": 97}),
        (
            "system.filesystem.usage",
            {
                f"device=/dev/{of},mode=rw,mountpoint={mount},state={state},type=ext4": number
                for of, mount, used, free in (("a", "/", 71, 29), ("b", "/srv/data", 92.5, 7.5))
                for state, number in (("used", used), ("free", free), ("reserved", 0))
            },
        ),
        ("system.cpu.load_average.1m", 0.4),
        ("system.cpu.load_average.5m", 0.6),
        ("system.cpu.load_average.15m", 0.5),
        (
            "system.network.io",
            {
                "device=eth0,direction=receive": 1000 * seconds,
                "device=eth0,direction=transmit": 250 * seconds,
            },
        ),
        ("system.uptime", 86_400),
    ]


GLANCES: list[tuple[str, Any]] = [
    ("cpu", {"total": 12.0, "user": 9.0, "system": 3.0, "idle": 88.0, "cpucore": 4}),
    ("mem", {"percent": 61.0, "percent_max": 70.0, "total": 16 * GIB}),
    ("memswap", {"percent": 3.0}),
    ("load", {"min1": 0.4, "min5": 0.6, "min15": 0.5, "cpucore": 4}),
    ("fs", {"/.percent": 71.0, "/.size": 5, "/srv/data.percent": 92.5, "/srv/data.fs_type": "xfs"}),
    ("network", {"eth0.bytes_recv_rate_per_sec": 1000.0, "eth0.bytes_sent_rate_per_sec": 250.0}),
    ("uptime", {"seconds": 86_400}),
    ("now", {"iso": "2026-11-29T07:07:43+00:00"}),
]
_PARTS = (("idle", 0.88), ("user", 0.09), ("system", 0.03))


def _fs(mount: str) -> str:
    return f"device=/dev/sda1,device_error=,fstype=ext4,mountpoint={mount}"
