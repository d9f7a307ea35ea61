"""What monitoring systems send: OpenTelemetry's exporter, and, where the machine has them, node_exporter,
Prometheus and VictoriaMetrics' agent."""

import re
import shutil
import subprocess
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from host_gauges import wait_for_gauges
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Gauge, start_http_server
from remote_write import packed, request_1, request_2
from stack import Stack, answers, free_port, wait_until
from support import Account

from thingscale.devices.models import Device
from thingscale.intakes.actions import create_intake
from thingscale.intakes.models import Intake
from thingscale.lib.clock import now_us
from thingscale.provisioning.actions import configure_device

pytestmark = pytest.mark.e2e

PROMETHEUS, NODE_EXPORTER = shutil.which("prometheus"), shutil.which("prometheus-node-exporter")
VMAGENT = shutil.which("vmagent")
V1, V2 = "application/x-protobuf", "application/x-protobuf;proto=io.prometheus.write.v2.Request"
WRITTEN = "X-Prometheus-Remote-Write-Samples-Written"
FAILED = "prometheus_remote_storage_samples_failed_total{"
SCRAPE = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:{}"]}}]
"""
RECIPES = Path(__file__).parents[2] / "docs" / "recipes"


def recipe(name: str, place: int, running: Stack, **filled: str) -> str:
    """A block of YAML of the recipe, with what its reader fills in."""
    text = re.findall(r"^```yaml\n(.*?)^```", (RECIPES / name).read_text(), re.MULTILINE | re.DOTALL)[place]
    text = text.replace("https://HOST", running.url("")).replace("interval: 30s", "interval: 1s")
    for word, value in filled.items():
        assert word in text
        text = text.replace(word, value)
    return str(text)


@pytest.fixture
def programs() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Starts one, which ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], log: Path) -> "subprocess.Popen[bytes]":
        with log.open("ab") as output:
            started.append(subprocess.Popen(command, stdout=output, stderr=output))
        return started[-1]

    yield start
    for program in started:
        program.kill()
        program.wait(30)


@pytest.mark.skipif(
    not (PROMETHEUS and NODE_EXPORTER), reason="apt-get install prometheus prometheus-node-exporter"
)
def test_prometheus_and_node_exporter_as_their_recipes_have_them(
    stack: Callable[..., Stack],
    account: Account,
    outsider: Account,
    tmp_path: Path,
    programs: Callable[..., "subprocess.Popen[bytes]"],
) -> None:
    """One with the device token; and an agent, which sends less, with the key of another account's intake."""
    running = stack("web")
    node, port, agent_port = free_port(), free_port(), free_port()
    account.device(f"127.0.0.1:{node}")
    outsider.device("server-1")
    _, key = create_intake(outsider.user, {"name": "Prometheus", "format": Intake.Format.PROMETHEUS})
    (tmp_path / "server.yml").write_text(
        SCRAPE.format(node) + recipe("prometheus.md", 1, running, DEVICE_TOKEN=account.device_token)
    )
    (tmp_path / "agent.yml").write_text(
        recipe("node-exporter.md", 0, running, KEY=key, **{"localhost:9100": f"127.0.0.1:{node}"})
    )
    exporter = programs([str(NODE_EXPORTER), f"--web.listen-address=127.0.0.1:{node}"], tmp_path / "node.log")
    wait_until(lambda: answers(node), what="the exporter")
    for name, listen, options in (
        ("server", port, [f"--storage.tsdb.path={tmp_path}/server"]),
        ("agent", agent_port, ["--enable-feature=agent", f"--storage.agent.path={tmp_path}/agent"]),
    ):
        command = [str(PROMETHEUS), f"--config.file={tmp_path}/{name}.yml", *options]
        programs([*command, f"--web.listen-address=127.0.0.1:{listen}"], tmp_path / f"{name}.log")
    for owner in (account, outsider):
        wait_until(lambda: stored(owner).keys() >= {"node_load1", "up"}, what="a scrape")  # noqa: B023
        found = stored(owner)
        assert isinstance(found["node_load1"], float)
        assert found["up"] == 1.0
        assert {"cpu=0,mode=idle", "cpu=0,mode=user"} <= found["node_cpu_seconds_total"].keys()
        assert found["node_memory_MemTotal_bytes"] > 1e6
        wait_for_gauges(owner, "node_exporter")
    assert len(stored(account)) > 100  # metrics
    assert len(stored(outsider)) <= 13
    exporter.kill()  # all of its series end with stale markers
    wait_until(lambda: stored(account)["up"] == stored(outsider)["up"] == 0.0, what="the end of the exporter")
    for name, listen in (("server", port), ("agent", agent_port)):
        with urllib.request.urlopen(f"http://127.0.0.1:{listen}/metrics", timeout=30) as response:
            lines = response.read().decode().splitlines()
        failed = [line.rpartition(" ")[2] for line in lines if line.startswith(FAILED)]
        assert failed == ["0"], (tmp_path / f"{name}.log").read_text()


@pytest.mark.skipif(not VMAGENT, reason="apt-get install victoria-metrics")
def test_vmagent_and_the_python_client(
    stack: Callable[..., Stack],
    account: Account,
    tmp_path: Path,
    programs: Callable[..., "subprocess.Popen[bytes]"],
) -> None:
    running = stack("web")
    registry = CollectorRegistry()
    Gauge("cellar_celsius", "How warm it is.", ["place"], registry=registry).labels("floor").set(11.5)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    account.device(f"127.0.0.1:{server.server_port}")
    (tmp_path / "scrape.yml").write_text(SCRAPE.format(server.server_port))
    programs(
        [
            str(VMAGENT),
            f"-promscrape.config={tmp_path}/scrape.yml",
            f"-remoteWrite.url={running.url('/api/v1/write')}",
            f"-remoteWrite.bearerToken={account.device_token}",
            f"-remoteWrite.tmpDataPath={tmp_path}/data",
            f"-httpListenAddr=127.0.0.1:{free_port()}",
        ],
        tmp_path / "vmagent.log",
    )
    wait_until(lambda: "cellar_celsius" in stored(account), what="a scrape")
    assert stored(account)["cellar_celsius"] == {"place=floor": 11.5}
    server.shutdown()
    server.server_close()
    thread.join(30)


def stored(account: Account) -> dict[str | None, Any]:
    """The newest value of each tag."""
    return {tag: orjson.loads(value) for value, tag in account.stored()}


def send(url: str, body: bytes, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read(), dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


def test_remote_write_2_0_sent_twice_and_refused_in_part(
    stack: Callable[..., Stack], account: Account, outsider: Account
) -> None:
    running = stack("web")
    account.device("a")
    configure_device(account.device("b"), {"enabled": False})
    outsider.device("a")
    now = now_us() // 1000
    url, token = running.url("/api/v1/write"), f"Bearer {account.device_token}"
    body = packed(
        request_2(
            ({"__name__": "cpu", "instance": "a", "mode": "idle"}, [(now, 1.5), (now - 1000, 2.5)]),
            ({"__name__": "load", "instance": "a"}, [(now, 3.0)]),
        )
    )
    kind = {"Content_Type": V2, "Content_Encoding": "snappy"}
    for _ in range(2):
        status, answer, headers = send(url, body, Authorization=token, **kind)
        assert (status, answer, headers[WRITTEN]) == (204, b"", "3")
        assert "Content-Length" not in headers
    assert set(account.stored()) == {
        ('{"mode=idle": 1.5}', "cpu"),
        ('{"mode=idle": 2.5}', "cpu"),
        ("3.0", "load"),
    }
    assert len(account.stored()) == 3
    body = packed(
        request_2(
            ({"__name__": "load", "instance": "b"}, [(now, 3.0), (now - 1, 3.0)]),
            ({"__name__": "load", "instance": "a"}, [(now - 1, 3.0)]),
        )
    )
    status, answer, headers = send(url, body, Authorization=token, **kind)
    assert (status, headers[WRITTEN]) == (400, "1")
    assert b"Device b" in answer
    assert len(account.stored()) == 4
    bad = packed(
        request_1(({"__name__": "load", "instance": "a"}, [(now, 1.0)]), ({"__name__": "x"}, [(5, 1.0)]))
    )
    status, answer, _ = send(url, bad, Authorization=token, Content_Type=V1, Content_Encoding="snappy")
    assert (status, answer.split(b":")[0]) == (400, b"BAD_JSON_FORMAT")
    assert b"timeseries[1] has a time" in answer
    for wrong in (f"Bearer {account.api_token}", "Bearer x", f"Bearer {'0' * 32}"):
        assert send(url, body, Authorization=wrong, **kind)[0] == 401
    assert (
        send(url, body, Authorization=token, Content_Type="text/plain", Content_Encoding="snappy")[0] == 415
    )
    assert len(account.stored()) == 4
    assert outsider.stored() == []


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_the_exporter_of_opentelemetry(
    stack: Callable[..., Stack], account: Account, outsider: Account, compression: Compression
) -> None:
    running = stack("web")
    account.device("attic")
    exporter = OTLPMetricExporter(
        running.url("/v1/metrics"),
        headers={"authorization": f"Bearer {account.device_token}"},
        compression=compression,
    )
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider([reader], Resource({"service.name": "house", "device.id": "attic"}))
    meter = provider.get_meter("house")
    meter.create_counter("steps").add(3, {"floor": "1"})
    meter.create_histogram("door.open", unit="s").record(2.5)
    assert provider.force_flush(30_000)
    provider.shutdown()
    found = stored(account)
    assert found["steps"] == {"floor=1": 3}
    assert found["door.open"] == {"count": 1, "sum": 2.5, "min": 2.5, "max": 2.5, "buckets": {"5": 1}}
    assert outsider.stored() == []


def test_otlp_in_json_by_the_key_of_an_intake(
    stack: Callable[..., Stack], account: Account, outsider: Account
) -> None:
    running = stack("web")
    configure_device(account.device("off"), {"enabled": False})
    account.device("on")
    _, key = create_intake(account.user, {"name": "Collector", "format": Intake.Format.OTLP})
    at = str(now_us() * 1000)

    def of(host: str) -> dict[str, object]:
        metric = {"name": "m", "gauge": {"dataPoints": [{"timeUnixNano": at, "asInt": "7"}]}}
        attribute = {"key": "host.name", "value": {"stringValue": host}}
        return {"resource": {"attributes": [attribute]}, "scopeMetrics": [{"metrics": [metric]}]}

    url = running.url(f"/in/{key}/v1/metrics")
    status, answer, headers = send(
        url, orjson.dumps({"resourceMetrics": [of("on")]}), Content_Type="application/json"
    )
    assert (status, answer, headers["Content-Type"]) == (200, b"{}", "application/json")
    body = orjson.dumps({"resourceMetrics": [of("on"), of("off")]})
    status, answer, _ = send(url, body, Content_Type="application/json")
    partial = orjson.loads(answer)["partialSuccess"]
    assert (status, partial["rejectedDataPoints"]) == (200, "1")
    assert "Device off" in partial["errorMessage"]
    assert account.stored() == [("7", "m")]
    status, answer, _ = send(url, b"[]", Content_Type="application/json")
    assert (status, orjson.loads(answer)["code"]) == (400, 3)
    wrong = running.url(f"/in/{'a' * 26}/v1/metrics")
    status, answer, _ = send(wrong, body, Content_Type="application/json")
    assert (status, orjson.loads(answer)["code"]) == (401, 16)
    assert outsider.stored() == []


def test_bombs_are_too_large(stack: Callable[..., Stack], account: Account) -> None:
    running = stack("web")
    token = f"Bearer {account.device_token}"
    zeros = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = zeros.compress(bytes(100 * 2**20)) + zeros.flush()
    for kind, said in (("application/json", b"TOO_LARGE: "), ("application/x-protobuf", b"TOO_LARGE: ")):
        status, answer, _ = send(
            running.url("/v1/metrics"), bomb, Authorization=token, Content_Type=kind, Content_Encoding="gzip"
        )
        assert status == 413
        assert said in answer
    four_gigabytes = b"\xff\xff\xff\xff\x0f" + bytes(1000)
    status, answer, _ = send(
        running.url("/api/v1/write"),
        four_gigabytes,
        Authorization=token,
        Content_Type=V1,
        Content_Encoding="snappy",
    )
    assert (status, answer.split(b":")[0]) == (413, b"TOO_LARGE")


def test_what_comes_before_its_device_is_mapped_is_held(
    stack: Callable[..., Stack], account: Account
) -> None:
    running = stack("web")
    now = now_us() // 1000
    body = packed(request_2(({"__name__": "load", "instance": "new"}, [(now, 3.0)])))
    for _ in range(2):
        status, _, headers = send(
            running.url("/api/v1/write"),
            body,
            Authorization=f"Bearer {account.device_token}",
            Content_Type=V2,
            Content_Encoding="snappy",
        )
        assert (status, headers[WRITTEN]) == (204, "1")
    device = Device.objects.for_account(account.user).get(device_id="new")
    configure_device(device, {"enabled": True, "mapped_channel": account.channel()})
    wait_until(account.stored, what="the held datapoint")
    assert account.stored() == [("3.0", "load")]
