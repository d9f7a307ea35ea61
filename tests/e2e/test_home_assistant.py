"""Home Assistant itself, where it is installed, set up as its recipes say: its states come in by MQTT and by
its InfluxDB integration, and it follows an event."""

import itertools
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from documents import ROOT
from mqtt_clients import HOST, gateway
from stack import Stack, free_port, wait_until
from support import Account

from thingscale.accounts.actions import choose_own_topics
from thingscale.intakes.actions import create_intake

pytestmark = pytest.mark.e2e
HASS = shutil.which("hass")
HOUSE = """
http:
  server_host: 127.0.0.1
  server_port: {port}
homeassistant:
  name: Home
  unit_system: metric
  time_zone: UTC
template:
  - sensor:
      - name: Kitchen temperature
        unit_of_measurement: "°C"
        device_class: temperature
        state: "{{{{ 21.5 if is_state('binary_sensor.cellar_too_warm', 'on') else 20 }}}}"
"""


def block(page: str, start: str) -> str:
    text = (ROOT / "docs" / "recipes" / page).read_text()
    blocks: list[str] = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return next(found for found in blocks if found.startswith(start))


@pytest.fixture
def running(stack: Callable[..., Stack], account: Account) -> Stack:
    choose_own_topics(account.user, True)
    found = gateway(stack)
    stack("celery")
    return found


@pytest.fixture
def home(running: Stack, account: Account, tmp_path: Path) -> Iterator[Path]:
    """Its folder."""
    _, key = create_intake(account.user, {"name": "i", "format": "influx", "preset": "influxdb"})
    topic = {"topic": "statestream/#"}
    create_intake(account.user, {"name": "h", "format": "mapped", "preset": "home-assistant", **topic})
    influx = block("home-assistant-influxdb.md", "influxdb:").replace("/in/KEY", f"/in/{key}")
    influx = influx.replace("ssl: true", f"ssl: false\n  port: {running.http}").replace("HOST", HOST)
    events = block("home-assistant.md", "mqtt:").replace("DEVICE_TOKEN", account.device_token)
    parts = (HOUSE.format(port=free_port()), influx, block("home-assistant-statestream.md", "mqtt_"), events)
    (tmp_path / "configuration.yaml").write_text("".join(parts))
    broker = {"broker": HOST, "port": running.mqtt, "discovery": False}
    signed_in = {"username": account.user_id, "password": account.device_token}
    entry = {
        **{"entry_id": "m", "domain": "mqtt", "title": "ThingScale", "source": "user", "version": 1},
        **{"data": broker | signed_in, "options": {}, "unique_id": None, "disabled_by": None},
        **{"pref_disable_new_entities": False, "pref_disable_polling": False, "minor_version": 1},
    }
    (tmp_path / ".storage").mkdir()
    kept = {"key": "core.config_entries", "version": 1, "minor_version": 1, "data": {"entries": [entry]}}
    (tmp_path / ".storage" / "core.config_entries").write_text(json.dumps(kept))
    assert HASS
    with (tmp_path / "output").open("wb") as output:
        command = [HASS, "-c", str(tmp_path), "--skip-pip", "--verbose"]
        program = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield tmp_path
    finally:
        program.kill()
        program.wait(60)


@pytest.mark.skipif(not HASS, reason="pip install homeassistant influxdb influxdb-client paho-mqtt")
def test_home_assistant_tells_its_states_and_follows_an_event(
    running: Stack, account: Account, request: pytest.FixtureRequest
) -> None:
    for number, name in enumerate(
        ("kitchen_temperature", "sensor.kitchen_temperature", "binary_sensor.cellar_too_warm")
    ):
        account.device(name, channel=10 + number)
    account.device("cellar")
    headers = {"X-APITOKEN": account.api_token}
    event = {"description": "warm", "mapped_ch": 0, "source": "temp", "operator": ">", "threshold": "30"}
    event |= {"notify_type": "http", "post_url": "https://example.com/"}
    made = requests.post(running.url("/v2/event"), json=event, headers=headers, timeout=60)
    assert made.json()["event_id"] == 1

    def measure(temp: float) -> None:
        own = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "cellar"}
        assert requests.post(running.url("/post_v2/"), json={"temp": temp}, headers=own, timeout=60).ok

    measure(20)
    request.getfixturevalue("home")
    temperatures = itertools.cycle((31, 20))

    def told() -> bool:
        """It tells what changes once it runs."""
        time.sleep(1)
        measure(next(temperatures))
        return {("on", "state"), ("off", "state")} <= texts(account, 12)

    wait_until(told, 100, "the event's state, by MQTT")
    assert ("21.5", "state") in texts(account, 11)
    wait_until(lambda: account.stored(10), 60, "a state by InfluxDB's line protocol")
    value, tag = account.stored(10)[0]
    assert json.loads(value)["value"] in (20, 21.5)
    assert tag == "sensor__temperature/domain=sensor"


def texts(account: Account, channel: int) -> set[tuple[str, str | None]]:
    return {(value.strip('"'), tag) for value, tag in account.stored(channel)}
