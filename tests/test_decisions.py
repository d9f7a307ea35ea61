"""The pages of docs/decisions begin alike, and their index and links are true."""

import re
from datetime import date
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "decisions"
PAGES = sorted(FOLDER.glob("[0-9]*.md"))
LINK = r"\[(\d+)\]\((\d{4})-[a-z0-9-]+\.md\)"
STATUS = re.compile(rf"accepted|(?:partly )?superseded by {LINK}")
EACH = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def head(page: Path) -> tuple[str, str, str, str]:
    """Number, title, day and status."""
    found = re.match(r"# (\d{4}) (.+)\n\n(\d{4}-\d\d-\d\d), (.+)\.\n\n", page.read_text())
    assert found, page.name
    return found[1], found[2], found[3], found[4]


@EACH
def test_a_decision_begins_with_number_title_day_and_status(page: Path) -> None:
    number, _, day, status = head(page)
    assert page.name.startswith(f"{number}-")
    assert date.fromisoformat(day)
    assert STATUS.fullmatch(status)


@EACH
def test_what_supersedes_a_decision_is_later_and_names_it(page: Path) -> None:
    number, *_, status = head(page)
    if found := re.search(LINK, status):
        (later,) = FOLDER.glob(f"{found[2]}-*.md")
        assert int(found[1]) == int(found[2]) > int(number)
        assert re.search(rf"\b{number}\b|\[{int(number)}\]", later.read_text()), f"{later.name} is silent"


def test_the_index_has_a_row_for_each() -> None:
    rows = [
        f"| [{number}]({page.name}) | {title} | {day} | {status} |"
        for page in PAGES
        for number, title, day, status in [head(page)]
    ]
    assert [line for line in (FOLDER / "README.md").read_text().split("\n") if line.startswith("| [")] == rows


def test_a_number_is_given_once() -> None:
    numbers = [page.name[:4] for page in PAGES]
    assert len(numbers) == len(set(numbers)) > 30
