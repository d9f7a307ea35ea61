"""S9: `make audit` tells "nothing found" from "nobody could be asked"."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "audit.py"
GOOD = {"name": "django", "version": "5.2.19", "vulns": []}
ADVISORIES = [{"id": "PYSEC-1", "fix_versions": ["5.2.20", "6.0.1"]}, {"id": "CVE-2", "fix_versions": []}]
BAD = GOOD | {"vulns": ADVISORIES}
SKIPPED = {"name": "a", "skip_reason": "Dependency not found on PyPI and could not be audited: a (1)"}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("packages", "advisories", "unasked"),
    [
        ([GOOD], 0, 0),
        ([GOOD, BAD], 2, 0),
        ([GOOD, SKIPPED], 0, 1),  # of which pip-audit itself says: No known vulnerabilities found
        ([], 0, 1),
    ],
)
def test_s9_what_pip_audit_says(audit: ModuleType, packages: Any, advisories: int, unasked: int) -> None:
    report = audit.read_pip_audit(json.dumps({"dependencies": packages}), "")
    assert (len(report.advisories), len(report.unasked)) == (advisories, unasked)
    if advisories:
        assert report.advisories[0] == "django 5.2.19: PYSEC-1, mended in 5.2.20 or 6.0.1"


@pytest.mark.parametrize("output", ["", "null", "{}", "<html>", '{"message": "405", "error": {}}'])
def test_s9_an_answer_that_is_none(audit: ModuleType, output: str) -> None:
    for read in (audit.read_pip_audit, audit.read_npm_audit):
        report = read(output, "npm error audit endpoint returned an error\nA complete log is in x\n")
        assert report == ([], ["npm error audit endpoint returned an error"])
        assert read(output, "").unasked == ["no answer"]


def test_s9_what_npm_says(audit: ModuleType) -> None:
    assert audit.read_npm_audit('{"vulnerabilities": {}}', "") == ([], [])
    found = audit.read_npm_audit('{"vulnerabilities": {"ws": {"severity": "high"}}}', "")
    assert found == (["ws: high"], [])


@pytest.mark.parametrize(
    ("pip", "npm", "code", "said"),
    [
        ([GOOD], {"vulnerabilities": {}}, 0, "requirements.txt: no advisories"),
        ([SKIPPED], {"vulnerabilities": {}}, 2, "COULD NOT BE ASKED about 1 of"),
        ([GOOD], {}, 2, "npm: THE ADVISORY SERVICE COULD NOT BE ASKED"),
        ([BAD, SKIPPED], {}, 1, "django 5.2.19: CVE-2"),
    ],
)
def test_s9_the_exit_code(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pip: Any,
    npm: Any,
    code: int,
    said: str,
) -> None:
    answers = {"npm": json.dumps(npm), "pip-audit": json.dumps({"dependencies": pip})}
    monkeypatch.setattr(audit, "_run", lambda *command: (answers[command[0]], "an error"))
    assert audit.main() == code
    assert said in capsys.readouterr().out
