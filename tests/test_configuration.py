"""Every setting is explained."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [ROOT / "thingscale" / "settings.py", *(ROOT / "thingscale" / "local").glob("*.py")]
OURS = {"THINGSCALE_SUPERVISED"}  # between our own processes


def names() -> set[str]:
    pattern = re.compile(r'"(THINGSCALE_[A-Z_]+|[A-Z0-9]+_URL)"')
    return {name for source in SOURCES for name in pattern.findall(source.read_text())} - OURS


@pytest.mark.parametrize("name", sorted(names()))
def test_a_setting_is_in_the_configuration_page(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "configuration.md").read_text()
