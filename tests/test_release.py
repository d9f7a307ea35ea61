"""The version is the same wherever it stands, and what a release has to have is there."""

import re
import tomllib
from datetime import date
from hashlib import sha256
from pathlib import Path

import pytest
from django.test import Client
from support import make_account

from thingscale.version import RELEASE, VERSION

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
APACHE_2 = (
    "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # apache.org/licenses/LICENSE-2.0.txt
)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_the_changelog_has_this_version_on_top_and_dates() -> None:
    first, *headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first == "Unreleased"
    versions = [re.fullmatch(r"(\d+\.\d+\.\d+) \((.+)\)", heading) for heading in headings]
    found = [(match[1], date.fromisoformat(match[2])) for match in versions if match]
    assert len(found) == len(headings)
    assert found[0][0] == VERSION
    assert found == sorted(found, key=lambda each: numbers(each[0]), reverse=True)
    assert [day for _, day in found] == sorted((day for _, day in found), reverse=True)


def test_releases_are_counted_from_0() -> None:
    """By RELEASE processes know whether they may run together: 0.1.0 is 0, each version after it one more."""
    headings = re.findall(r"^## \d", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert len(headings) - 1 == RELEASE


def test_the_supported_version_is_this_one() -> None:
    rows = re.findall(r"^\| (\d+\.\d+)\.x \| (yes|no) \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    assert [version for version, fixes in rows if fixes == "yes"] == [VERSION.rpartition(".")[0]]


def test_the_licence_is_apache_2_unchanged() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2


@pytest.mark.django_db
def test_the_console_shows_the_version() -> None:
    client = Client()
    client.force_login(make_account("owner@example.com").user)
    assert f"ThingScale {VERSION}" in client.get("/devices/").content.decode()
