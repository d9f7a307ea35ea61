"""Recipes of programs that write to InfluxDB, or send by OTLP, each followed as it stands there: by the real
client where it is installed, else by the request that it was seen to send."""

import configparser
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import requests
import yaml
from documents import ROOT
from stack import Stack
from support import Account

from thingscale.intakes.actions import create_intake
from thingscale.lib.clock import now_us

pytestmark = pytest.mark.e2e
NODE = shutil.which("node")
TEXT = {"Content-Type": "text/plain"}


class Place(NamedTuple):
    """Where a recipe is followed."""

    account: Account
    host: str  # http://127.0.0.1:port
    url: str  # of an intake

    def filled(self, text: str) -> str:
        """As its reader does it."""
        text = text.replace("https://HOST/in/KEY", self.url).replace("https://HOST", self.host)
        text = re.sub(r"\bURL\b", self.url, text)
        return text.replace("DEVICE_TOKEN", self.account.device_token)

    def stored(self) -> list[tuple[Any, str | None]]:
        return [(json.loads(value), tag) for value, tag in self.account.stored()]


@pytest.fixture
def place(stack: Callable[..., Stack], account: Account) -> Place:
    running = stack("web")
    account.device("roof")
    _, key = create_intake(account.user, {"name": "i", "format": "influx", "preset": "influxdb"})
    return Place(account, running.url("").rstrip("/"), running.url(f"/in/{key}"))


def blocks(page: str, kind: str) -> list[str]:
    text = (ROOT / "docs" / "recipes" / page).read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def post(url: str, body: bytes | str, **more: Any) -> None:
    answer = requests.post(url, body, timeout=60, **more)
    assert answer.status_code == 204, answer.text


SERIES = 23  # of Telegraf's 26 lines: some are of the same one and time
WEATHER = [({"temp": 21.5}, "weather")]


def test_by_hand(place: Place, tmp_path: Path) -> None:
    (line,) = blocks("influxdb-clients.md", "sh")
    subprocess.run(["sh", "-c", place.filled(line)], check=True, timeout=60)
    assert place.stored() == [({"temp": 21.5, "humid": 40}, "weather")]


@pytest.mark.parametrize("library", ["influxdb_client", "influxdb_client_3"])
def test_the_clients_for_python(place: Place, library: str) -> None:
    code = next(
        block for block in blocks("influxdb-clients.md", "python") if f"from {library} import" in block
    )
    code = place.filled(code)
    (url,) = re.findall(r'(?:url|host)="([^"]+)"', code)
    (token,) = re.findall(r'token="([^"]+)"', code)
    assert urlsplit(url).path == ("" if library == "influxdb_client_3" else urlsplit(place.url).path)
    if find_spec(library):
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    else:
        query, accepted = "org=any&bucket=any&precision=ns", {"Accept": "application/json"}
        own = {**TEXT, **accepted, "Authorization": f"Token {token}"}
        post(f"{url}/api/v2/write?{query}", "weather,host=roof temp=21.5", headers=own)
    assert place.stored() == WEATHER


def test_the_client_for_node(place: Place, tmp_path: Path) -> None:
    (code,) = blocks("influxdb-clients.md", "js")
    code = place.filled(code)
    modules = os.environ.get("NODE_PATH", "")
    if NODE and any((Path(each) / "@influxdata").exists() for each in modules.split(os.pathsep)):
        subprocess.run([NODE, "-e", code], check=True, timeout=60)
    else:
        (url,), (token,) = re.findall(r'url: "([^"]+)"', code), re.findall(r'token: "([^"]+)"', code)
        own = {**TEXT, "Authorization": f"Token {token}"}
        line = f"weather,host=roof temp=21.5 {now_us() * 1000}"
        post(f"{url}/api/v2/write?org=any&bucket=any&precision=ns", line, headers=own)
    assert place.stored() == WEATHER


def test_the_library_for_arduino(place: Place) -> None:
    """The bucket is the device of a line that names none."""
    (sketch,) = blocks("influxdb-clients.md", "cpp")
    (arguments,) = re.findall(r"InfluxDBClient client\((.*?)\)", place.filled(sketch))
    url, organization, bucket, token = re.findall(r'"([^"]*)"', arguments)
    place.account.device(bucket, channel=1)
    own = {"Authorization": f"Token {token}", "User-Agent": "influxdb-client-arduino/3.13.2"}
    (name,), (field,) = (
        re.findall(r'Point weather\("(\w+)"', sketch),
        re.findall(r'addField\("(\w+)"', sketch),
    )
    query = f"org={organization}&bucket={bucket}&precision=ns"
    post(f"{url}/api/v2/write?{query}", f"{name} {field}=21.50\n", headers={**TEXT, **own})
    assert place.account.stored(1) == [('{"temp": 21.50}', "weather")]


def test_proxmox(place: Place) -> None:
    """Its path prefix stands in front of InfluxDB's own path."""
    (prefix,) = re.findall(r"API path prefix\n?\s*`(/in/KEY)`", (page := influx_clients()))
    assert "nodes and guests are devices" in page
    url = place.filled(f"https://HOST{prefix}").removesuffix("/")
    for number, name in enumerate(("pve", "mail"), 1):
        place.account.device(name, channel=number)
    second = now_us() // 1_000_000
    body = (
        f"system,object=nodes,host=pve uptime=123,cpus=4 {second}000000000\n"
        f"system,object=qemu,vmid=100,nodename=pve,host=mail,status=running mem=1048576 {second}000000000\n"
    )
    own = {"Authorization": "Token any"}
    post(f"{url}/api/v2/write?org=proxmox&bucket=proxmox", body, headers=own)
    assert place.account.stored(1) == [('{"cpus": 4, "uptime": 123}', "system/object=nodes")]
    (guest,) = place.account.stored(2)
    assert guest[1] == "system/nodename=pve/object=qemu/status=running/vmid=100"


def influx_clients() -> str:
    return (ROOT / "docs" / "recipes" / "influxdb-clients.md").read_text()


# Telegraf is a program of Go, which neither pip nor npm nor Debian has


def telegraf_batch(account: Account) -> bytes:
    """As it was recorded, of now."""
    account.device("leeloo", channel=1)
    recorded = (ROOT / "tests" / "intakes" / "payloads" / "influx" / "telegraf.txt").read_bytes()
    return re.sub(rb" \d{19}$", b" %d000" % now_us(), recorded, flags=re.MULTILINE)


def test_telegraf(place: Place) -> None:
    config, _ = (tomllib.loads(place.filled(block)) for block in blocks("telegraf.md", "toml"))
    (output,) = config["outputs"]["influxdb_v2"]
    batch = telegraf_batch(place.account)
    query = f"bucket={output['bucket']}&org={output['organization']}"
    headers = {"Authorization": f"Token {output['token']}", "Content-Encoding": "gzip"}
    for _ in range(2):  # in chunks, as it compresses while it sends
        body = iter([gzip.compress(batch)])
        post(f"{output['urls'][0]}/api/v2/write?{query}", body, headers=headers)  # type: ignore[arg-type]
    tags = {tag for _, tag in place.account.stored(1)}
    assert len(place.account.stored(1)) == SERIES
    assert {"cpu/cpu=cpu0", "disk/device=sda1/fstype=ext4/mode=rw/path=%2F"} <= tags


def test_telegraf_as_it_writes_to_version_1(place: Place) -> None:
    _, config = (tomllib.loads(place.filled(block)) for block in blocks("telegraf.md", "toml"))
    (output,) = config["outputs"]["influxdb"]
    (url,), signed_in = output["urls"], (output["username"], output["password"])
    created = requests.post(
        f"{url}/query", {"q": f'CREATE DATABASE "{output["database"]}"'}, auth=signed_in, timeout=60
    )
    assert created.json() == {"results": [{"statement_id": 0}]}
    batch = telegraf_batch(place.account)
    post(f"{url}/write?db={output['database']}", batch, auth=signed_in)
    assert len(place.account.stored(1)) == SERIES
    assert requests.post(f"{url}/write?db=x", batch, auth=("any", "x"), timeout=60).status_code == 401


def test_home_assistants_integration(place: Place) -> None:
    """As it is without Home Assistant itself (test_home_assistant.py)."""
    whole, tags = blocks("home-assistant-influxdb.md", "yaml")
    config = yaml.safe_load(whole)["influxdb"]
    assert (config["api_version"], config["ssl"]) == (2, True)
    url = place.filled(f"https://{config['host']}{config['path']}")
    place.account.device("living_room_temperature", channel=1)
    series = "sensor__temperature,domain=sensor,entity_id=living_room_temperature"
    line = f'{series}%s friendly_name_str="Living room",value=21.5'
    query = f"org={config['organization']}&bucket={config['bucket']}&precision=ns"
    own = {**TEXT, "Authorization": f"Token {config['token']}"}
    post(f"{url}/api/v2/write?{query}", f"{line % ''} {now_us() * 1000}", headers=own)
    value = {"friendly_name_str": "Living room", "value": 21.5}
    assert [(json.loads(text), tag) for text, tag in place.account.stored(1)] == [
        (value, "sensor__temperature/domain=sensor")
    ]
    (site,) = yaml.safe_load(tags)["tags"].items()
    place.account.device(site[1], channel=2)
    _, key = create_intake(
        place.account.user, {"name": "s", "format": "influx", "options": {"device_tags": [site[0]]}}
    )
    more = ",".join(["", "=".join(site)])
    post(f"{place.host}/in/{key}/api/v2/write?{query}", line % more, headers=own)
    assert [tag for _, tag in place.account.stored(2)] == [
        "sensor__temperature/domain=sensor/entity_id=living_room_temperature"
    ]


# OpenTelemetry


def otlp(place: Place) -> Place:
    _, key = create_intake(place.account.user, {"name": "o", "format": "otlp", "preset": "opentelemetry"})
    return place._replace(url=f"{place.host}/in/{key}")


def test_the_collector_of_opentelemetry(place: Place) -> None:
    """Each part that a pipeline names is there, and what it exports is taken."""
    place = otlp(place)
    (text,) = blocks("otel-collector.md", "yaml")
    config = yaml.safe_load(place.filled(text))
    pipeline = config["service"]["pipelines"]["metrics"]
    assert all(set(names) <= set(config[kind]) for kind, names in pipeline.items())
    point = {"timeUnixNano": str(now_us() * 1000), "asDouble": 0.25}
    metric = {"name": "system.cpu.load_average.1m", "unit": "{thread}", "gauge": {"dataPoints": [point]}}
    resource = {"attributes": [{"key": "host.name", "value": {"stringValue": "roof"}}]}
    body = {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]}
    packed = gzip.compress(json.dumps(body).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    url = config["exporters"]["otlphttp"]["metrics_endpoint"]
    assert requests.post(url, packed, headers=headers, timeout=60).status_code == 200
    assert place.stored() == [(0.25, "system.cpu.load_average.1m")]


SDK = """
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

provider = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(), 3_600_000)])
provider.get_meter("house").create_counter("steps").add(3)
assert provider.force_flush(30_000)
"""


@pytest.mark.parametrize("own_path", [False, True], ids=["an intake", "the device token"])
def test_a_program_with_an_sdk_of_opentelemetry(place: Place, own_path: bool) -> None:
    """Which reads nothing but its environment."""
    place = otlp(place)
    place.account.device("attic", channel=1)
    (text,) = blocks("otel-collector.md", "sh")
    parser = configparser.RawConfigParser(interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(f"[all]\n{place.filled(text)}")
    environment = dict(parser["all"])
    if own_path:
        page = (ROOT / "docs" / "recipes" / "otel-collector.md").read_text()
        (endpoint,), (headers,) = (
            re.findall(r"URL is `(.*?)`", page),
            re.findall(r"(OTEL\w+_HEADERS=.*?)`", page),
        )
        name, _, value = place.filled(headers).partition("=")
        environment |= {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": place.filled(endpoint), name: value}
    subprocess.run([sys.executable, "-c", SDK], env=os.environ | environment, check=True, timeout=60)
    assert set(place.account.stored(1)) == {("3", "steps")}  # also as it ends
