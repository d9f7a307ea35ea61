"""`make audit`: looks for published advisories about what we install, with pip-audit and npm.

Ends with 1 if there are any, and with 2 if a service could not be asked about something: that is no good
news, and pip-audit by itself says "No known vulnerabilities found" then.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "requirements-node.txt")
SECONDS = 300
MAX_SHOWN = 5


class Report(NamedTuple):
    advisories: list[str]
    unasked: list[str]  # why


def read_pip_audit(output: str, errors: str) -> Report:
    try:
        found = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Report([], [_last_line(errors)])
    advisories = [
        f"{package['name']} {package['version']}: {advisory['id']}"
        + (f", mended in {' or '.join(advisory['fix_versions'])}" if advisory["fix_versions"] else "")
        for package in found
        for advisory in package.get("vulns", ())
    ]
    skipped = [package["skip_reason"] for package in found if "skip_reason" in package]
    return Report(advisories, skipped if found else ["pip-audit looked at nothing"])


def read_npm_audit(output: str, errors: str) -> Report:
    try:
        found = json.loads(output)
        packages = found["vulnerabilities"]
    except (ValueError, KeyError, TypeError):
        return Report([], [_last_line(errors)])
    return Report([f"{name}: {package['severity']}" for name, package in packages.items()], [])


def main() -> int:
    reports = {"npm": read_npm_audit(*_run("npm", "audit", "--json"))}
    for name in REQUIREMENTS:
        command = ("pip-audit", "--requirement", name, "--require-hashes", "--disable-pip", "--format=json")
        reports[name] = read_pip_audit(*_run(*command, "--progress-spinner", "off"))
    for name, report in reports.items():
        say(name, report)
    if any(report.advisories for report in reports.values()):
        return 1
    return 2 if any(report.unasked for report in reports.values()) else 0


def say(name: str, report: Report) -> None:
    lines = list(report.advisories)
    if report.unasked:
        lines.append(f"THE ADVISORY SERVICE COULD NOT BE ASKED about {len(report.unasked)} of its parts:")
        lines += report.unasked[:MAX_SHOWN]
    for line in lines or ["no advisories"]:
        sys.stdout.write(f"{name}: {line}\n")


def _run(*command: str) -> tuple[str, str]:
    program: Sequence[str] = command
    if command[0] == "pip-audit":
        program = [sys.executable, "-m", "pip_audit", *command[1:]]
    try:
        done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    return done.stdout, done.stderr


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and "complete log" not in line]
    return lines[-1] if lines else "no answer"


if __name__ == "__main__":
    sys.exit(main())
