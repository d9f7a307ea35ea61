"""The agent as it is installed: alone, on the oldest Python, by nobody in particular, and hardened."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path

import psutil
import pytest
from mqtt_clients import gateway
from running_agent import HOST_ID, RunningAgent, Start, samples, wait_for
from stack import ROOT, free_port
from support import Account

AGENT = ROOT / "agent"
OLDEST = Path.home() / ".pyenv" / "versions"
TOKEN = "0123456789ABCDEF" * 2


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_the_unit_is_hardened() -> None:
    command = ["systemd-analyze", "security", "--offline=true", str(AGENT / "servwatch-agent.service")]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if "exposure level" not in said.stdout:
        pytest.skip(f"this systemd-analyze can't: {said.stderr}")
    found = re.search(r"exposure level for servwatch-agent.service: ([\d.]+)", said.stdout)
    assert found
    assert float(found[1]) < 2


@pytest.mark.slow
@pytest.mark.skipif(not list(OLDEST.glob("3.9.*")), reason="needs Python 3.9")
def test_it_installs_alone_and_runs_on_the_oldest_python(tmp_path: Path) -> None:
    (python, *_) = OLDEST.glob("3.9.*/bin/python3.9")
    source = tmp_path / "agent"
    shutil.copytree(AGENT, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    installed = tmp_path / "venv" / "bin"
    pip = [str(installed / "pip"), "install", "--quiet", "--disable-pip-version-check", str(source)]
    said = subprocess.run(pip, capture_output=True, text=True, check=False)
    if said.returncode and "No matching distribution" in said.stderr:
        pytest.skip("there is no package index here")
    assert not said.returncode, said.stderr
    command = [str(installed / "servwatch-agent"), "--once"]
    once = subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True)
    sample, facts = json.loads(once.stdout).values()
    assert sample.keys() >= {"cpu", "memory", "load", "processes"}
    assert sample["cpu"].keys() >= {"user", "idle"}
    assert "cpu" in sample["processes"]
    assert facts["python"].startswith("3.9.")
    environment = {"SERVWATCH_SERVER": "127.0.0.1", "SERVWATCH_USER": "U000001", "SERVWATCH_TOKEN": TOKEN}
    environment |= {"SERVWATCH_TLS": "no", "SERVWATCH_HTTP_PORT": str(free_port()), "HOME": str(tmp_path)}
    environment |= {"SERVWATCH_MQTT_PORT": str(free_port())}
    check = [command[0], "--check"]
    said = subprocess.run(check, env=environment, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout.count("Connection refused")) == (1, 2), said
    subprocess.run([installed / "python", "-W", "error", "-m", "compileall", "-qf", source], check=True)


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv") or sys.version_info[:2] != (3, 11),
    reason="needs root, setpriv, and a Python of the system that is ours",
)
def test_it_runs_as_nobody_without_a_home() -> None:
    python = Path("/usr/bin/python3.11")
    if not python.exists():
        pytest.skip("needs the system's Python")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are for one user only
        packages = Path(folder)
        packages.chmod(0o755)
        for package in ("psutil", "gmqtt"):
            shutil.copytree(Path(sysconfig.get_paths()["platlib"]) / package, packages / package)
        shutil.copytree(AGENT / "servwatch_agent", packages / "servwatch_agent")
        command = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--no-new-privs"]
        command += [str(python), "-m", "servwatch_agent", "--once"]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": folder}
        said = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert not said.returncode, said.stderr
    sample, facts = json.loads(said.stdout).values()
    assert sample.keys() >= {"cpu", "memory", "disk", "processes"}
    assert facts["os"]


@pytest.mark.e2e
def test_check_says_in_sentences_what_works(stack: Start, account: Account, tmp_path: Path) -> None:
    running = stack()
    agent = RunningAgent(account, running, tmp_path, SERVWATCH_CONNECTOR="auto")

    def check() -> tuple[int, str]:
        command = [sys.executable, "-m", "servwatch_agent", "--check"]
        said = subprocess.run(command, env=agent.environment, capture_output=True, text=True, check=False)
        assert account.device_token not in said.stdout + said.stderr
        assert not said.stderr
        return said.returncode, said.stdout

    status, said = check()
    assert status == 0, said
    assert [line.split()[0] for line in said.splitlines()] == ["ok"] * 4
    agent.environment["SERVWATCH_TOKEN"] = TOKEN
    status, said = check()
    assert status == 1
    assert "user or device token is wrong" in said
    assert "the device token is wrong" in said
    agent.environment |= {"SERVWATCH_TLS": "yes", "SERVWATCH_HTTP_PORT": str(free_port())}
    status, said = check()
    assert status == 1
    assert said.count("FAILED") == 2
    assert "Connection refused" in said


@pytest.mark.e2e
def test_by_tls_it_talks_to_who_has_a_trusted_certificate_only(
    stack: Start, account: Account, tmp_path: Path
) -> None:
    running = gateway(stack)
    ca_file = running.environment["THINGSCALE_TLS_CERT"]
    account.device(HOST_ID)
    ports = {"SERVWATCH_TLS": "yes", "SERVWATCH_MQTT_PORT": str(running.tls)}
    agent = RunningAgent(account, running, tmp_path, **ports, SERVWATCH_INTERVAL="2")
    agent.start()
    try:
        wait_for(lambda: "its certificate is not trusted" in agent.log, agent, "the sentence")
        agent.stop()
        assert not samples(account)
        agent.environment["SERVWATCH_CA_FILE"] = ca_file
        agent.start()
        wait_for(lambda: len(samples(account)) > 2, agent, "samples")
        assert agent.process
        memory = psutil.Process(agent.process.pid).memory_info().rss
        assert memory < 40e6
    finally:
        agent.stop()


@pytest.mark.e2e
def test_a_token_that_is_wrong_is_said_and_kept_for_itself(
    stack: Start, account: Account, tmp_path: Path
) -> None:
    agent = RunningAgent(account, stack(), tmp_path, SERVWATCH_TOKEN=TOKEN)
    agent.start()
    try:
        wait_for(lambda: "user or device token is wrong" in agent.log, agent, "the sentence")
    finally:
        agent.stop()
    assert TOKEN not in agent.log
    assert agent.process
    assert agent.process.returncode == 0


def test_two_agents_of_one_buffer(tmp_path: Path) -> None:
    from servwatch_agent.buffer import Buffer

    buffer = Buffer(tmp_path / "buffer", 1 << 20)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(AGENT),
        "SERVWATCH_SERVER": "127.0.0.1",
        "SERVWATCH_USER": "U000001",
        "SERVWATCH_TOKEN": TOKEN,
        "SERVWATCH_BUFFER": str(tmp_path / "buffer"),
    }
    command = [sys.executable, "-m", "servwatch_agent"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 1
    assert said.stderr.startswith("servwatch-agent: Another agent uses")
    buffer.close()


def test_it_needs_nothing_of_the_platform() -> None:
    """It is installed alone."""
    imported = set()
    for path in (AGENT / "servwatch_agent").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 9))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    foreign = imported - sys.stdlib_module_names - {"servwatch_agent"}
    project = tomllib.loads((AGENT / "pyproject.toml").read_text())["project"]
    assert foreign == {re.split(r"[<>=]", each)[0] for each in project["dependencies"]} == {"gmqtt", "psutil"}
