"""What documents point to is there."""

import re
from pathlib import Path

import pytest
from documents import ROOT, quoted

GUIDES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "docs" / "recipes").glob("*.md"),
]
PAGES = [*GUIDES, ROOT / "CHANGELOG.md", *(ROOT / "docs" / "decisions").glob("*.md")]
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"var"}
MADE = {"node_modules/", ".venv/"}  # by make


def named(page: Path) -> set[str]:
    """Paths of files and folders of ours that stand in backquotes or in a block of commands."""
    block = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
    code = [*block.findall(page.read_text()), *quoted(block.sub("", page.read_text()))]
    words = {word for text in code for word in re.split(r"[\s,=]+", text)}
    paths = {word.partition("::")[0].strip("()[];:'\"") for word in words}
    return {path for path in paths if path.partition("/")[0] in FOLDERS and "/" in path and "<" not in path}


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_a_path_in_a_guide_exists(page: Path) -> None:
    """`*` stands for one of many. Pages of decisions speak of their day."""
    assert not {path for path in named(page) if path not in MADE and not any(ROOT.glob(path))}


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_a_command_of_make_in_a_guide_exists(page: Path) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)) <= set(targets)


def test_a_name_in_a_recipe_exists() -> None:
    """Constants, classes and functions, somewhere in the code."""
    recipes = (ROOT / "CONTRIBUTING.md").read_text().partition("## Recipes")[2]
    folders = ("thingscale", "ingest", "api", "console", "tests")
    code = "\n".join(path.read_text() for folder in folders for path in (ROOT / folder).rglob("*.py"))
    pieces = [piece for piece in quoted(recipes) if not re.search(r"[/ -]|\.\w+$", piece)]
    names = {name for piece in pieces for name in re.findall(r"[A-Za-z_]{2,}", piece)}
    assert len(names) > 10
    assert not {name for name in names if not re.search(rf"\b{name}\b", code)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    inner = {link for link in links if not re.match(r"\w+:", link)}
    assert not {link for link in inner if not (page.parent / link).exists()}
