"""Checks that the configuration asks for: TCP ports, URLs, certificates, systemd units."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import subprocess
import time
from typing import Any

from servwatch_agent import __version__
from servwatch_agent.config import Check
from servwatch_agent.tls import trusting

UNITS_SECONDS = 10
DOWN = {"up": 0}


def run(check: Check) -> dict[str, Any]:
    """`up` is 1 if the port, or the URL with a status below 400, answered in time. What hangs in spite of the
    limit of each step is overdue to who asks."""
    result: dict[str, Any] = dict(DOWN)
    if check.url.startswith("https:") and (days := _certificate_days(check)) is not None:
        result["certificate_days"] = days
    started = time.monotonic()
    try:
        if check.url:
            result["status"] = _status(check)
            result["up"] = int(result["status"] < 400)
        else:
            socket.create_connection((check.host, check.port), check.seconds).close()
            result["up"] = 1
    except (OSError, http.client.HTTPException, ValueError):
        return result
    result["ms"] = round(1000 * (time.monotonic() - started), 1)
    return result


def _status(check: Check) -> int:
    """Of a GET. Redirects are not followed; they are an answer."""
    scheme, _, rest = check.url.partition("://")
    path = rest[len(rest.partition("/")[0].partition("?")[0]) :]
    path = path if path.startswith("/") else f"/{path}"
    if scheme == "https":
        context = trusting(check.ca_file)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            check.host, check.port, timeout=check.seconds, context=context
        )
    else:
        connection = http.client.HTTPConnection(check.host, check.port, timeout=check.seconds)
    try:
        agent = {"User-Agent": f"servwatch-agent/{__version__}", "Connection": "close"}
        connection.request("GET", path, headers=agent)
        return connection.getresponse().status
    finally:
        connection.close()


def _certificate_days(check: Check) -> float | None:
    """Also of one that has ended; but not of one that nobody we trust has signed."""
    try:
        context = trusting(check.ca_file, check_time=False)
        with socket.create_connection((check.host, check.port), check.seconds) as plain:  # noqa: SIM117
            with context.wrap_socket(plain, server_hostname=check.host) as secured:
                certificate = secured.getpeercert() or {}
    except (OSError, ValueError):
        return None
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return round((ends - time.time()) / 86400, 2)


def summary(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How it stands with all of them, before each."""
    days = [each["certificate_days"] for each in results.values() if "certificate_days" in each]
    group: dict[str, Any] = {"failed": sum(not each["up"] for each in results.values())}
    if days:
        group["certificate_days"] = min(days)
    return {**group, **results}


def units(names: tuple[str, ...]) -> dict[str, Any] | None:
    """None where there is no systemd. Needs no right: systemctl asks it over D-Bus."""
    systemctl = shutil.which("systemctl")
    if not systemctl:
        return None
    failed = _systemctl(systemctl, "list-units", "--state=failed", "--no-legend", "--plain")
    group: dict[str, Any] = {"failed": len(failed.splitlines())}
    if names:
        shown = _systemctl(systemctl, "show", "--property=Id,ActiveState,NRestarts", "--", *names)
        for name, text in zip(names, shown.split("\n\n")):
            properties = dict(line.partition("=")[::2] for line in text.splitlines())
            unit = {"active": int(properties.get("ActiveState") in ("active", "reloading"))}
            if properties.get("NRestarts", "").isdigit():
                unit["restarts"] = int(properties["NRestarts"])
            group[name.replace(":", "_")] = unit
    return group


def _systemctl(*command: str) -> str:
    found = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=UNITS_SECONDS, check=True
    )
    return found.stdout
