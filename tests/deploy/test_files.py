"""The files of deploy/ are valid, start what `manage.py up` starts, and nothing with the secrets in them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest.connectors.intake import routes
from thingscale.lib import env
from thingscale.lib.kinds import ENDPOINTS
from thingscale.local.app_processes import celery_command, web_command
from thingscale.local.config import read
from thingscale.version import VERSION

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = [DEPLOY / "compose.yaml", DEPLOY / "compose.cluster.yaml"]
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
NOT_IN_THE_IMAGE = {"agent", "benchmarks", "deploy", "docs", "scripts", "tests"}
EXPOSED = 2.0  # at most, of 10, as systemd counts


def program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str | Path, **variables: str) -> str:
    done = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def own(name: str) -> Path:
    """A program of the virtual environment."""
    return Path(sys.executable).with_name(name)


def documents(path: Path) -> Iterator[Any]:
    yield from yaml.safe_load_all(path.read_text())


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_a_compose_file_has_the_form_of_one(path: Path) -> None:
    run(own("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", path)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_has_the_form_of_one(path: Path) -> None:
    run(own("kubernetes-validate"), "--strict", path)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """As they would be installed, but for what is not on this machine."""
    for path in (*UNITS, *(DEPLOY / "systemd").glob("*.timer")):
        text = path.read_text().replace("/opt/thingscale/.venv/bin/python", sys.executable)
        text = text.replace("/opt/thingscale", str(ROOT)).replace(
            "/etc/thingscale/env", str(DEPLOY / "env.example")
        )
        (tmp_path / path.name.replace("@", "@1")).write_text(text)
    return tmp_path


def test_the_units_are_valid_and_hardened(units: Path) -> None:
    analyze = program("systemd-analyze")
    said = run(analyze, "verify", "--man=no", *sorted(units.iterdir()), SYSTEMD_UNIT_PATH=f"{units}:")
    assert not said
    for path in sorted(units.glob("*.service")):
        said = run(analyze, "security", "--offline=true", "--no-pager", path)
        level = re.search(r"exposure level for \S+: ([\d.]+)", said)
        assert level
        assert float(level[1]) <= EXPOSED, said


def test_the_units_are_hardened_alike() -> None:
    texts = [path.read_text().partition("# What it may do")[2].partition("\n\n")[0] for path in UNITS]
    assert len({text.strip() for text in texts}) == 1


def started() -> Iterator[tuple[str, list[str]]]:
    """What the compose files, the manifests and the units start of ours."""
    for path in COMPOSE:
        for service in yaml.safe_load(path.read_text())["services"].values():
            if service.get("image", "").startswith("thingscale:") and "entrypoint" not in service:
                yield path.name, service["command"]
    for path in MANIFESTS:
        for document in documents(path):
            pod = document.get("spec", {}).get("template", {}).get("spec", {})
            for container in [*pod.get("initContainers", []), *pod.get("containers", [])]:
                if container["image"].startswith("thingscale:"):
                    yield path.name, container["args"]
    for path in UNITS:
        command = re.findall(r"^ExecStart=(.*)", path.read_text(), re.MULTILINE)[0]
        command = command.replace("${THINGSCALE_BIND}", "0.0.0.0").replace("${THINGSCALE_HTTP_PORT}", "8000")
        yield path.name, shlex.split(command)[1:]


def test_what_is_started_is_what_up_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("THINGSCALE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("THINGSCALE_BIND", "0.0.0.0")
    web = web_command(read())[1:]
    parts = {"-m uvicorn": web, "-m celery": celery_command()[1:]}
    commands = {"up", "prepare", "ingest", "backup"}
    seen = set()
    for name, command in started():
        if command[0] == "-m":
            assert command == parts[" ".join(command[:2])], name
        else:
            assert command[0] == "manage.py"
            assert command[1] in commands, name
        seen.add(" ".join(command[:2]))
    assert seen == {*parts, *(f"manage.py {command}" for command in commands)}


def example() -> dict[str, str]:
    lines = (DEPLOY / "env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_nothing_starts_with_the_secrets_of_the_files(tmp_path: Path) -> None:
    secrets = [example()]
    for path in MANIFESTS:
        secrets += [found["stringData"] for found in documents(path) if found["kind"] == "Secret"]
    assert len(secrets) == 2
    for each in secrets:
        assert each["THINGSCALE_SECRET_KEY"] == env.KNOWN_TO_ALL
        assert each["POSTGRES_PASSWORD"] == ""
    known = {name: value for name, value in os.environ.items() if not name.startswith("THINGSCALE_")}
    done = subprocess.run(
        [sys.executable, "manage.py", "prepare"],
        cwd=ROOT,
        env=known | example() | {"THINGSCALE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("There is no secret key")
    for path in COMPOSE:  # an empty password: compose itself refuses
        assert path.read_text().count("${POSTGRES_PASSWORD:?") == path.read_text().count(
            "${POSTGRES_PASSWORD"
        )


def test_a_setting_of_the_files_is_explained() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            names = set(re.findall(r"THINGSCALE_[A-Z_]+", path.read_text()))
            assert not {name for name in names if f"`{name}`" not in page}, path.name


def test_the_image_has_all_code() -> None:
    listed = subprocess.run(["git", "ls-files", "*/*"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no working copy of git")
    folders = {name.partition("/")[0] for name in listed.stdout.splitlines() if name[0] != "."}
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    copied = set(re.findall(r"^COPY ([a-z]+) \1$", dockerfile, re.MULTILINE))
    assert copied == folders - NOT_IN_THE_IMAGE
    taken = {*copied, "manage.py", "requirements.txt", "package.json", "package-lock.json"}
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text()
    assert set(re.findall(r"^!(.*)$", ignore, re.MULTILINE)) == taken


def test_the_image_is_of_this_release() -> None:
    for path in (*COMPOSE, *MANIFESTS):
        assert set(re.findall(r"image: thingscale:(\S+)", path.read_text())) <= {VERSION}, path.name


def test_what_devices_without_tls_may_do_is_what_is_a_devices() -> None:
    """Each proxy sends the rest to https."""
    kinds = {path for endpoint in ENDPOINTS.values() for path in endpoint.http_paths}
    paths = {*kinds, *(f"{path}/" for path in kinds), *routes.FORMATS}
    caddy = re.findall(r"@devices path (.*)", (DEPLOY / "Caddyfile").read_text())[0].split()
    assert set(caddy) == {*paths, f"{routes.PREFIX}*"}
    haproxy = (DEPLOY / "haproxy.cfg").read_text()
    assert set(re.findall(r"acl devices path (.*)", haproxy)[0].split()) == paths
    assert re.findall(r"acl devices path_beg (.*)", haproxy) == [routes.PREFIX]
    nginx = (DEPLOY / "nginx.conf").read_text()
    pattern = re.findall(r"location ~ (\S+) \{", nginx)[0]
    assert {path for path in paths if re.search(pattern, path)} == paths
    assert set(re.split(r"[(|)]", pattern)[1:-1]) == {path.strip("/") for path in paths}
    assert f"location {routes.PREFIX} {{" in nginx


def rehearse(dockerfile: Path) -> "subprocess.CompletedProcess[str]":
    script = ROOT / "scripts" / "rehearse_image.py"
    command = [sys.executable, str(script), "--list", "--dockerfile", str(dockerfile)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_rehearsal_of_the_image_understands_each_step() -> None:
    """The rehearsal itself takes minutes, and root: scripts/rehearse_image.py."""
    listed = rehearse(DEPLOY / "Dockerfile")
    assert listed.returncode == 0, listed.stderr
    assert "image: python:3.11-slim-bookworm, as 10001:10001" in listed.stdout
    assert listed.stdout.count("RUN") == 5


@pytest.mark.parametrize(
    ("line", "instead", "said"),
    [
        ("USER 10001:10001", "USER root", "the image runs as root"),
        ("COPY static static", "COPY statics static", "there is no statics"),
        ("COPY --from=pages", "COPY --from=page", "there is no stage page"),
        ("WORKDIR /opt/thingscale", "ONBUILD /opt/thingscale", "ONBUILD is not understood"),
    ],
)
def test_the_rehearsal_refuses_an_image_that_is_wrong(
    tmp_path: Path, line: str, instead: str, said: str
) -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert line in text
    (tmp_path / "Dockerfile").write_text(text.replace(line, instead))
    listed = rehearse(tmp_path / "Dockerfile")
    assert listed.returncode == 1
    assert said in listed.stderr
