"""What does not change while a machine runs."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
from datetime import datetime, timezone
from pathlib import Path
from typing import Union

import psutil

from servwatch_agent import __version__

Facts = dict[str, Union[str, int]]


def gather(server: str, port: int) -> Facts:
    """May take seconds, for it asks the name servers."""
    facts: dict[str, str | int | None] = {
        "os": _system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "hostname": _hostname(),
        "address": _address(server, port),
        "cpu": _processor(),
        "cores": psutil.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "virtualization": _virtualization(),
        "boot": datetime.fromtimestamp(psutil.boot_time(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "agent": __version__,
        "python": platform.python_version(),
    }
    return {name: value for name, value in facts.items() if value}


def _hostname() -> str:
    """With its domain, if the machine knows it."""
    name = socket.getfqdn()
    return socket.gethostname() if name.startswith("localhost") else name


def _system() -> str:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        with contextlib.suppress(OSError):
            text = Path(path).read_text(errors="replace")
            found = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)
            if found:
                return found[1]
    return platform.system()


def _address(server: str, port: int) -> str | None:
    """From which the server is reached. Connecting UDP sends nothing."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(server, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return None


def _processor() -> str | None:
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(errors="replace")
        found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
        if found:
            return " ".join(found[1].split())
    return platform.processor() or None


def _virtualization() -> str:
    """As well as it can be told from files that everybody may read."""
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    with contextlib.suppress(OSError):
        kind = Path("/run/systemd/container").read_text().strip()
        if kind:
            return kind
    vendor = ""
    with contextlib.suppress(OSError):
        vendor = Path("/sys/class/dmi/id/sys_vendor").read_text(errors="replace").strip().lower()
    for word, name in _VENDORS.items():
        if word in vendor:
            return name
    with contextlib.suppress(OSError):
        if " hypervisor" in Path("/proc/cpuinfo").read_text(errors="replace"):
            return "vm"
    return "lxc" if os.environ.get("container") == "lxc" else "none"  # noqa: SIM112


_VENDORS = {
    "qemu": "kvm",
    "amazon": "amazon",
    "google": "google",
    "microsoft": "microsoft",
    "vmware": "vmware",
    "xen": "xen",
    "innotek": "virtualbox",
    "openstack": "openstack",
    "digitalocean": "kvm",
    "hetzner": "kvm",
}
