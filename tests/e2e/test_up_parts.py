"""Parts of the platform on machines of their own, and several gateways on one: here all on this one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from up_runs import LAST_LINE, PROJECT, Up, until

from thingscale.local import ports

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="thingscale-parts-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def free_ports(*names: str) -> dict[str, str]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = ports.free_port(frozenset(found.values()))
    return {f"THINGSCALE_{name}_PORT": str(port) for name, port in found.items()}


def publish(port: str, account: dict[str, str], value: int, client: str = "") -> None:
    """With QoS 1: returns once it is stored."""
    import paho.mqtt.publish as mqtt

    mqtt.single(
        f"{account['device_token']}/json/first-device",
        str(value),
        qos=1,
        hostname="127.0.0.1",
        port=int(port),
        client_id=client,
        auth={"username": account["user_id"], "password": account["device_token"]},
    )


def first_account(home: Path, environment: dict[str, str]) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "manage.py", "show_account", "U000001", "--json"],
        cwd=PROJECT,
        env=environment | {"THINGSCALE_HOME": str(home), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def values(http: str, account: dict[str, str]) -> list[int]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{http}/v2/stream/0?endtime=last&pagelimit=100",
        headers={"X-APITOKEN": account["api_token"]},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return sorted(row["value"] for row in json.load(answer)["stream"])


def test_each_machine_runs_what_it_is_told(folder: Path) -> None:
    chosen = free_ports("HTTP", "MQTT", "MQTT_WS")
    first = Up(folder / "first", chosen, "--only", "postgres,valkey,web")
    other: Up | None = None
    try:
        first.read_until(LAST_LINE)
        assert "curl -X POST" in first.text
        assert "mosquitto_pub" not in first.text
        servers: dict[str, str] = json.loads((folder / "first" / "servers.json").read_text())
        account = first_account(folder / "first", servers)

        stranger = Up(folder / "stranger", chosen | servers, "--only", "ingest")
        assert stranger.wait() == 1
        assert stranger.lines[-1].startswith("The database is of an installation with another secret key")
        stranger.close()

        key = (folder / "first" / "secret_key").read_text().strip()
        given = chosen | servers | {"THINGSCALE_SECRET_KEY": key}
        other = Up(folder / "other", given, "--only", "ingest,celery", "--workers", "2")
        other.read_until(LAST_LINE)
        started = [line for line in other.lines if line.startswith("starting ")]
        assert started == ["starting ingest", "starting ingest-2", "starting celery"]
        assert "user id" not in other.text
        for number in range(20):
            publish(chosen["THINGSCALE_MQTT_PORT"], account, number, f"client-{number}")
        assert values(chosen["THINGSCALE_HTTP_PORT"], account) == list(range(20))

        with psycopg.connect(servers["DATABASE_URL"], autocommit=True) as connection:
            rows = connection.execute("SELECT part, pid FROM processes_process ORDER BY part, id").fetchall()
            assert [part for part, _ in rows] == ["celery", "ingest", "ingest", "web"]
            os.kill(rows[1][1], signal.SIGKILL)
            other.read_until("^ingest(-2)? stopped .killed by SIGKILL.; starting it again in ")
            for number in range(20, 40):  # the other one takes them, or both
                publish(chosen["THINGSCALE_MQTT_PORT"], account, number, f"client-{number}")
        until(lambda: values(chosen["THINGSCALE_HTTP_PORT"], account) == list(range(40)))
        assert other.ctrl_c() == 0
        assert first.ctrl_c() == 0
    finally:
        if other:
            other.close()
        first.close()


def test_two_machines_that_start_first_make_one_account(folder: Path) -> None:
    servers = Up(folder / "servers", {}, "--only", "postgres,valkey")
    machines: list[Up] = []
    try:
        servers.read_until(LAST_LINE)
        assert "ready: postgres, valkey" in servers.text
        urls: dict[str, str] = json.loads((folder / "servers" / "servers.json").read_text())
        for name in ("one", "two"):
            given = (
                urls | free_ports("HTTP") | {"THINGSCALE_SECRET_KEY": "the same for both, and long enough"}
            )
            machines.append(Up(folder / name, given, "--only", "web"))
        for machine in machines:
            machine.read_until(LAST_LINE)
        assert sorted("user id" in machine.text for machine in machines) == [False, True]
        with psycopg.connect(urls["DATABASE_URL"]) as connection:
            assert connection.execute("SELECT count(*) FROM accounts_user").fetchall() == [(1,)]
    finally:
        for machine in machines:
            machine.close()
        servers.close()


def test_up_behind_a_proxy_on_its_own_machine(folder: Path) -> None:
    """It asks itself whether it is ready with a header, and so do the lines that it prints."""
    chosen = free_ports("HTTP", "MQTT", "MQTT_WS") | {"THINGSCALE_PROXY_NETWORKS": "127.0.0.0/8"}
    up = Up(folder / "home", chosen)
    try:
        up.read_until(LAST_LINE)
        assert "mosquitto_pub" not in up.text  # which can write no header
        assert "PROXY header" not in (folder / "home" / "log" / "web.log").read_text()
        line = up.pasteable("curl --haproxy-protocol -X POST")
        if shutil.which("curl"):
            done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=True)
            assert done.stdout.strip() == "OK"
        assert up.ctrl_c() == 0
    finally:
        up.close()
