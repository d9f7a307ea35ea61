"""What the agent's page and the recipe say is so."""

import re
import time
from pathlib import Path

import pytest
from documents import ROOT, section
from servwatch_agent import config, facts
from servwatch_agent.metrics import Metrics, Processes, file_systems

PAGES = ("agent/README.md", "docs/recipes/servers.md", "README.md")
TOKEN = "0123456789ABCDEF" * 2


def test_all_that_is_sent_is_in_the_tables() -> None:
    text = section("agent/README.md", "What it sends")
    words = set(re.findall(r"[a-z_0-9]+", " ".join(re.findall(r"`([^`]+)`", text))))
    measured, processes = Metrics(), Processes()
    measured.measure()
    processes.measure()
    time.sleep(0.1)
    sample = measured.measure() | {"processes": processes.measure(), "disk": file_systems() or {}}
    assert sample.keys() <= words
    for group in ("cpu", "load", "memory", "swap", "processes"):
        assert sample.get(group, {}).keys() <= words
    for group in ("disk", "io", "net"):
        for each in sample.get(group, {}).values():
            assert not isinstance(each, dict) or each.keys() <= words
    assert facts.gather("127.0.0.1", 1).keys() <= words


@pytest.mark.parametrize("page", PAGES)
def test_settings_in_the_environment_are_known(page: str) -> None:
    named = set(re.findall(r"SERVWATCH_([A-Z_]+)", (ROOT / page).read_text()))
    assert named
    assert {name.lower() for name in named} <= config.SETTINGS


def test_the_example_has_every_setting() -> None:
    text = (ROOT / "agent" / "servwatch-agent.ini").read_text()
    main = text.partition("[servwatch]")[2].partition("[units]")[0]
    assert set(re.findall(r"^;?(\w+) =", main, re.MULTILINE)) | {"token"} == config.SETTINGS


def test_the_configuration_of_the_recipe(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```ini\n(.*?)^```", section(PAGES[1], "The agent"), re.MULTILINE | re.DOTALL)
    path = tmp_path / "agent.ini"
    path.write_text(block)
    environment = {"SERVWATCH_SERVER": "h", "SERVWATCH_USER": "U000001", "SERVWATCH_TOKEN": TOKEN}
    found = config.load(path, environment | {"SERVWATCH_BUFFER": str(tmp_path)})
    assert [each.name for each in found.checks] == ["shop", "database"]
    assert found.units == ("nginx.service",)
