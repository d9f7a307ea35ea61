"""collectd, Glances and ESPHome, where the machine has them, set up as their recipes say."""

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest
from host_gauges import wait_for_gauges
from stack import Stack, wait_until
from support import Account

from thingscale.intakes.actions import create_intake

pytestmark = pytest.mark.e2e

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
COLLECTD = shutil.which("collectd") or shutil.which("collectd", path="/usr/sbin:/usr/local/sbin")
GLANCES = shutil.which("glances")
ESPHOME = shutil.which("esphome")
NODE = """
esphome:
  name: greenhouse
esp8266:
  board: d1_mini
wifi:
  ssid: home
  password: long enough
"""
COLLECTD_CONF = """
Hostname "leeloo.example.com"
BaseDir "{folder}"
PIDFile "{folder}/pid"
Interval 1
LoadPlugin logfile
<Plugin logfile>
  File "{folder}/log"
</Plugin>
LoadPlugin cpu
LoadPlugin load
LoadPlugin interface
LoadPlugin memory
LoadPlugin df
"""


def recipe(name: str, place: int, filled: Mapping[str, str]) -> str:
    """A block of the recipe, with what its reader fills in."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (RECIPES / name).read_text(), re.MULTILINE | re.DOTALL)
    text: str = blocks[place]
    for word, value in filled.items():
        assert word in text
        text = text.replace(word, value)
    return text


@contextmanager
def running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        program = subprocess.Popen(command, stdout=output, stderr=output, cwd=log.parent)
    try:
        yield
    finally:
        program.kill()
        program.wait(30)


def tags(account: Account) -> set[str | None]:
    return {tag for _, tag in account.stored()}


@pytest.mark.skipif(not COLLECTD, reason="apt-get install collectd-core libcurl4 libyajl2")
def test_collectd_posts_what_it_gathers(
    stack: Callable[..., Stack], account: Account, outsider: Account, tmp_path: Path
) -> None:
    account.device("leeloo.example.com")
    _, key = create_intake(account.user, {"name": "collectd", "format": "mapped", "preset": "collectd"})
    url = stack("web").url(f"/in/{key}")
    block = recipe("collectd.md", 0, {'"URL"': f'"{url}"'})
    (tmp_path / "collectd.conf").write_text(COLLECTD_CONF.format(folder=tmp_path) + block)
    with running([str(COLLECTD), "-f", "-C", str(tmp_path / "collectd.conf")], tmp_path / "output"):
        wait_until(
            lambda: tags(account) >= {"load/load", "interface-lo/if_octets", "cpu-0/cpu-idle"},
            60,
            "values of collectd",
        )
        wait_for_gauges(account, "collectd")
    values = {tag: orjson.loads(value) for value, tag in account.stored()}
    assert set(values["load/load"]) == {"shortterm", "midterm", "longterm"}
    assert set(values["interface-lo/if_octets"]) == {"rx", "tx"}
    assert values["cpu-0/cpu-idle"] >= 0
    assert outsider.stored() == []


@pytest.mark.skipif(not GLANCES, reason="pip install glances")
def test_glances_posts_what_it_gathers(
    stack: Callable[..., Stack], account: Account, outsider: Account, tmp_path: Path
) -> None:
    account.device("leeloo")
    _, key = create_intake(account.user, {"name": "Glances", "format": "mapped", "preset": "glances"})
    address = urlsplit(stack("web").url(""))
    assert address.hostname
    filled = {
        "https": "http",
        "443": str(address.port),
        "HOST": address.hostname,
        "PATH": f"/in/{key}",
        "DEVICE_ID": "leeloo",
    }
    (tmp_path / "glances.conf").write_text(recipe("glances.md", 2, filled))
    command = recipe("glances.md", 3, {}).split()
    options = ["-C", str(tmp_path / "glances.conf"), "--time", "1"]
    with running([str(GLANCES), *command[1:], *options], tmp_path / "output"):
        wait_until(lambda: tags(account) >= {"cpu", "mem", "load"}, 90, "values of Glances")
        wait_for_gauges(account, "glances")
    values = {tag: orjson.loads(value) for value, tag in account.stored()}
    assert values["system"]["hostname"] == socket.gethostname()
    assert values["mem"]["total"] > 1e6
    assert all(values.values())  # plugins with nothing to say are left out
    assert outsider.stored() == []


@pytest.mark.skipif(not ESPHOME, reason="pip install esphome")
def test_esphome_knows_each_line_of_its_recipe(tmp_path: Path) -> None:
    filled = {"HOST": "192.0.2.1", "USER_ID": "U000001", "DEVICE_TOKEN": "abc", "DEVICE_ID": "greenhouse"}
    (tmp_path / "node.yaml").write_text(NODE + recipe("esphome.md", 0, filled))
    checked = subprocess.run(
        [str(ESPHOME), "config", "node.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "topic: esphome/greenhouse/status" in checked.stdout
