"""What `make` offers, and what runs before a commit."""

import re
import subprocess
import tomllib

import yaml
from documents import ROOT

# Folders of tests that start processes, or browsers, or take long.
PROCESSES = {
    "background",
    "console",
    "drills",
    "e2e",
    "gateway",
    "live",
    "local",
    "operations",
    "upgrade",
    "web",
}
MAKEFILE = (ROOT / "Makefile").read_text()


def test_help_names_every_target() -> None:
    printed = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    (phony,) = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    rows = re.findall(r"^make (\w+) +\S.+$", printed, re.MULTILINE)
    assert sorted(rows) == sorted(phony.split())
    assert len(rows) == len(printed.splitlines())


def test_make_alone_runs_the_platform() -> None:
    said = [
        "make",
        "--dry-run",
        "--assume-old",
        ".venv/.installed",
        "--assume-old",
        "node_modules/.installed",
    ]
    run = subprocess.run(said, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "manage.py up" in run.stdout


def test_the_pythons_begin_with_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (pythons,) = re.findall(r"^PYTHONS := ([a-z0-9. ]+\d)", MAKEFILE, re.MULTILINE)
    oldest = pythons.split()[-1].removeprefix("python")
    assert project["project"]["requires-python"] == f">={oldest}"
    assert project["tool"]["mypy"]["python_version"] == oldest
    assert project["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"


def test_a_commit_is_checked_as_make_lint_checks() -> None:
    """With the programs of .venv, which make pins, and nobody else's."""
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.+\n)+)", MAKEFILE, re.MULTILINE)
    linted = set(re.findall(r"\$\(BIN\)/(\S+(?: check| format)?)", recipe))
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    hooks = {hook["entry"].removeprefix(".venv/bin/") for hook in repo["hooks"]}
    assert all(hook["language"] == "system" for hook in repo["hooks"])
    assert {
        " ".join(hook.split()[:2]) if hook.startswith("ruff") else hook.split()[0] for hook in hooks
    } == linted


def test_no_test_of_the_platform_is_in_the_fast_tier() -> None:
    (folders,) = re.findall(r"^FAST := (.+)$", MAKEFILE, re.MULTILINE)
    named = {each.removeprefix("tests/") for each in folders.split()}
    there = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("**/test_*.py"))}
    assert named - {"test_*.py"} == there - PROCESSES, "is a new folder of tests for the fast tier?"
    (fast,) = re.findall(r"^fast:.*\n\t(.+)$", MAKEFILE, re.MULTILINE)
    assert '-m "not slow and not e2e and not drill" $(FAST)' in fast
