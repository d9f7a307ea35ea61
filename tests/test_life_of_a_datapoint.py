"""docs/life-of-a-datapoint.md names the files that a message enters, door by door: compared with traces of
real processes."""

from pathlib import Path

import pytest
from documents import quoted, table
from support import Account
from ways import DOORS, Way, all_ways

PAGE = "docs/life-of-a-datapoint.md"
HEADING = "Files in order"
# What all requests pass, and helpers: a row of the page may name them, and need not.
LEFT_OUT = (
    "api/",
    "console/",
    "thingscale/accounts/",
    "thingscale/asgi.py",
    "thingscale/lib/",
    "thingscale/processes/",
    "thingscale/web/",
)
NEVER_LEFT_OUT = ("api/v2/",)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def row_for(way: Way, named: list[str]) -> list[str]:
    """The files that the page has to name."""
    return [
        file
        for file in way.usual_order
        if file in named or file.startswith(NEVER_LEFT_OUT) or not file.startswith(LEFT_OUT)
    ]


def test_the_page_names_the_files_of_each_door_in_the_order_in_which_they_are_entered(
    account: Account, tmp_path: Path
) -> None:
    account.device("d1")
    rows = {door: quoted(files) for door, files in table(PAGE, HEADING)}
    ways = {way.name: way for way in all_ways(account, tmp_path) if way.name in DOORS}
    assert set(ways) == set(DOORS)
    right = {door: row_for(ways[door], rows.get(door, [])) for door in DOORS}
    wrong = [door for door in DOORS if rows.get(door) != right[door]]
    lines = [f"| {door} | {', '.join(f'`{file}`' for file in right[door])} |" for door in wrong]
    assert not wrong, f"{PAGE}, the table under {HEADING!r}, has to read:\n" + "\n".join(lines)
    assert set(rows) == set(DOORS), f"{PAGE} names doors that are not traced: {set(rows) - set(DOORS)}"
