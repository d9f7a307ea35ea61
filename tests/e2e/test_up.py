"""`manage.py up`, the whole stack: what it prints works when pasted."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from up_runs import LAST_LINE, Up, until

from thingscale.local import ports

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def chosen() -> dict[str, str]:
    names = ("THINGSCALE_HTTP_PORT", "THINGSCALE_MQTT_PORT", "THINGSCALE_MQTT_WS_PORT")
    found: dict[str, int] = {}
    for name in names:
        found[name] = ports.free_port(frozenset(found.values()))
    return {name: str(port) for name, port in found.items()}


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="thingscale-e2e-"))
    folder.chmod(0o755)
    yield folder / "home"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def first(home: Path, chosen: dict[str, str]) -> Iterator[Up]:
    """The first start, stopped by Ctrl-C at the end of the tests that use it."""
    up = Up(home, chosen)
    try:
        up.read_until(re.escape(LAST_LINE))
        yield up
    finally:
        up.close()


def paste(line: str) -> str:
    done = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def last_value(up: Up) -> object:
    return json.loads(paste(up.pasteable("curl -H 'X-APITOKEN")))["stream"][0]["value"]


def children_named(up: Up, word: str) -> list[int]:
    listing = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in listing.stdout.splitlines()]
    return [int(pid) for pid, parent, args in rows if int(parent) == up.process.pid and word in args]


def all_running(up: Up, chosen: dict[str, str]) -> bool:
    words = ("postgres -D", "valkey-server", "uvicorn", "manage.py ingest", "celery")
    listening = all(ports.answers("127.0.0.1", int(port)) for port in chosen.values())
    return listening and all(children_named(up, word) for word in words)


def test_first_start_prints_the_account_once(first: Up) -> None:
    assert len(re.findall(r"user id +U000001", first.text)) == 1
    assert re.search(r"API token +[0-9A-F]{32} ", first.text)
    assert re.search(r"device token +[0-9A-F]{32} ", first.text)
    assert len(re.findall("password", first.text)) == 2  # the sentence, and the password itself
    assert "ready: http://127.0.0.1:" in first.text


def test_pasted_http_line_is_stored(first: Up) -> None:
    needs("curl")
    assert paste(first.pasteable("curl -X POST").replace("21.5", "22.5")).strip() == "OK"
    assert last_value(first) == {"temp": 22.5}


def test_pasted_mqtt_line_is_stored(first: Up) -> None:
    needs("curl")
    needs("mosquitto_pub")
    paste(first.pasteable("mosquitto_pub").replace("21.5", "23.5"))
    assert last_value(first) == {"temp": 23.5}


def test_a_second_copy_is_refused(first: Up, home: Path, chosen: dict[str, str]) -> None:
    second = Up(home, chosen)
    assert second.wait() == 1
    assert second.text == f"A copy is already running in {home.resolve()} (process {first.process.pid})."
    second.close()


def test_secrets_reach_no_log(first: Up, home: Path) -> None:
    found = re.search(r"password (\S+)", first.text.split("console")[1])
    assert found
    key = (home / "secret_key").read_text().strip()
    for log in (home / "log").iterdir():
        text = log.read_text(errors="replace")
        assert found[1] not in text, log
        assert key not in text, log


@pytest.mark.parametrize(
    ("name", "word"), [("web", "uvicorn"), ("ingest", "manage.py ingest"), ("celery", "celery")]
)
def test_a_killed_process_comes_back(first: Up, name: str, word: str) -> None:
    (before,) = children_named(first, word)
    os.kill(before, signal.SIGKILL)
    first.read_until(f"^{name} stopped .killed by SIGKILL.; starting it again in ")
    until(lambda: children_named(first, word) not in ([], [before]))


def test_killed_postgres_comes_back_and_data_are_taken_again(first: Up) -> None:
    needs("curl")
    (before,) = children_named(first, "postgres -D")
    os.kill(before, signal.SIGKILL)
    first.read_until("^postgres stopped .killed by SIGKILL.; starting it again in ")
    line = first.pasteable("curl -X POST").replace("21.5", "24.5")

    def taken() -> bool:
        done = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=60, check=False)
        return done.stdout.strip() == "OK"

    until(taken, 60)
    assert last_value(first) == {"temp": 24.5}


def test_ctrl_c_stops_in_order_and_the_second_start_continues(
    first: Up, home: Path, chosen: dict[str, str]
) -> None:
    until(lambda: all_running(first, chosen), 60)
    assert first.ctrl_c() == 0
    stopped = [line.split()[1] for line in first.lines if line.startswith("stopping ")]
    assert stopped == ["celery", "ingest", "web", "valkey", "postgres"]
    assert first.lines[-1] == "stopped"
    second = Up(home, chosen)
    try:
        second.read_until(re.escape(LAST_LINE))
        assert "password" not in second.text
        assert "manage.py show_account U000001" in second.text
        assert "DEVICE_TOKEN" in second.pasteable("curl -X POST")
        if shutil.which("curl"):
            assert last_value(first) is not None
    finally:
        second.close()


def test_a_malformed_variable_is_one_sentence(home: Path, chosen: dict[str, str]) -> None:
    up = Up(home.parent / "other", chosen | {"DATABASE_URL": "nonsense"})
    assert up.wait() == 1
    assert up.lines == ["DATABASE_URL must look like postgresql://user:password@host:5432/name."]
    up.close()


def test_i4_without_any_mqtt_port(tmp_path_factory: pytest.TempPathFactory) -> None:
    """I4: the platform starts, takes HTTP, and nothing listens for MQTT."""
    port = ports.free_port()
    off = {f"THINGSCALE_MQTT{kind}_PORT": "0" for kind in ("", "_WS", "_TLS", "_WSS")}
    chosen = off | {"THINGSCALE_HTTP_PORT": str(port), "THINGSCALE_LOG_LEVEL": "INFO"}
    folder = Path(tempfile.mkdtemp(prefix="thingscale-up-"))
    folder.chmod(0o711)
    up = Up(folder / "home", chosen)
    try:
        up.read_until(re.escape(LAST_LINE))
        assert "mosquitto_pub" not in up.text
        assert (
            "OK"
            in subprocess.run(
                ["sh", "-c", up.pasteable("curl -X POST")],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
        )
        assert "Listening on" not in (folder / "home" / "log" / "ingest.log").read_text()
        assert up.ctrl_c() == 0
    finally:
        up.close()
        shutil.rmtree(folder, ignore_errors=True)
