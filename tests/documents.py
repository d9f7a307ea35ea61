"""Tables of a page in Markdown, to be compared with the code."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def section(page: str, heading: str) -> str:
    """What is below a heading, up to the next one of any level."""
    text = (ROOT / page).read_text()
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no heading {heading}"
    return found[1]


def tables(page: str, heading: str) -> list[list[list[str]]]:
    """Of a section: each table's rows, without its head; each row's cells."""
    found = re.findall(r"(?:^\|.*\|\n)+", section(page, heading), re.MULTILINE)
    return [[cells(line) for line in table.rstrip("\n").split("\n")[2:]] for table in found]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line[1:-1].split("|")]


def table(page: str, heading: str) -> list[list[str]]:
    return tables(page, heading)[0]


def quoted(text: str) -> list[str]:
    """What stands in backquotes."""
    return re.findall(r"`([^`]+)`", text)
