"""What scripts/shape.py counts, in a project of two files."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "shape.py"
FIRST = """
def public():
    return _once() + _twice() + _twice()

def _once():
    return 1

def _twice():
    def _nested():
        return _twice()
    return _nested

class Row:
    @property
    def _named_in_text(self):
        return getattr(self, "_found")

    def _found(self):
        return self._found() + _never()

    class Meta: ...

def _imported(): ...
"""
SECOND = """
from ingest.first import _imported, public

class Row:
    def show(self, row):
        public()
        return [_imported, row._named_in_text]

    class Meta: ...
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in (("ingest/first.py", FIRST), ("thingscale/second.py", SECOND)):
        for path in (tmp_path / name, tmp_path / Path(name).parent / "migrations" / "0001.py"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (tmp_path / "thingscale" / "__init__.py").touch()
    return tmp_path


def shape(tree: Path, *options: str) -> str:
    return subprocess.check_output([sys.executable, SCRIPT, "--tree", tree, *options], text=True)


def test_the_figures_of_a_tree(tree: Path) -> None:
    found = dict(line.split("  ", 1) for line in shape(tree).splitlines() if not line.startswith(" "))
    figures = {name: figure.strip() for name, figure in found.items()}
    assert figures["files"] == "3"
    assert figures["lines"] == str(len((FIRST + SECOND).splitlines()))
    assert figures["functions"] == "8"
    assert figures["lines of a function (median / p90 / max)"] == "2 / 4 / 4"
    assert figures["private helpers referenced once"] == "5 of 8 (62.5%)"
    assert figures["any function referenced once"] == "6 of 8 (75.0%)"
    assert figures["class names for two things"] == "1: Row"
    assert figures["loose files in thingscale/"] == "1: second.py"


def test_who_refers_to_a_helper_is_in_the_list(tree: Path) -> None:
    """Twice, inside itself only, and never: those are not in it."""
    rows = [line.split(" | ") for line in shape(tree, "--list").splitlines() if ".py:" in line]
    assert [(function, caller) for _, function, _, caller in rows] == [
        ("`_once`", "`public`, line 3 |"),
        ("`_twice._nested`", "`_twice`, line 11 |"),
        ("`Row._named_in_text`", "`thingscale/second.py`, `Row.show`, line 7 |"),
        ("`Row._found`", "`Row._named_in_text`, line 16 |"),
        ("`_imported`", "`thingscale/second.py`, `Row.show`, line 7 |"),
        ("`public`", "`thingscale/second.py`, `Row.show`, line 6 |"),
    ]
