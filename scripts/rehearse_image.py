"""Builds what deploy/Dockerfile describes without a container engine, and tries it.

    sudo python3 scripts/rehearse_image.py               # on top of this machine's own system
    sudo python3 scripts/rehearse_image.py --base DIR    # on top of a bare one, such as debootstrap makes:
        debootstrap --variant=minbase --include=python3,python3-venv bookworm DIR

Each stage is an overlay with a folder of its own on top, in which the steps of the Dockerfile are run in
order. Then its command is started as its user, without privileges, on a root that nobody can write to, and a
device sends a value that an app reads. The stage of Node.js stands on this machine's system, which needs npm.

`--list` shows the steps, and whether what they copy is there; that needs neither root nor Linux.
"""

import argparse
import ctypes
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAIN_JOB = ROOT / "scripts" / "rehearse_main_job.py"
KNOWN_TO_ALL = "insecure: set THINGSCALE_SECRET_KEY"
PASSED_ON = ("PIP_", "NPM_CONFIG_", "NODE_EXTRA_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
START_SECONDS = 180
NO_NEW_PRIVILEGES, NO_WRITABLE_CODE = 38, 65  # of prctl(2)


class Failed(Exception):
    """The text says at which step."""


@dataclass
class Stage:
    """What stands below one FROM. `steps` are RUN, COPY and WORKDIR, in their order."""

    image: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    volume: str = ""
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)


def read(text: str) -> list[Stage]:
    """Only what our Dockerfile uses; anything else is an error."""
    stages: list[Stage] = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        match word:
            case "FROM":
                image, _, name = rest.partition(" AS ")
                stages.append(Stage(image, name or "image"))
            case "RUN" | "COPY" | "WORKDIR":
                stages[-1].steps.append((word, rest))
            case "ENV":
                name, _, value = rest.partition("=")
                stages[-1].environment[name] = value
            case "USER":
                stages[-1].user = rest
            case "VOLUME":
                stages[-1].volume = rest
            case "ENTRYPOINT":
                stages[-1].entrypoint = json.loads(rest)
            case "CMD":
                stages[-1].command = json.loads(rest)
            case "HEALTHCHECK":
                stages[-1].healthcheck = json.loads(rest[rest.index("[") :])
            case "EXPOSE":
                pass
            case _:
                raise Failed(f"{word} is not understood here: {line}")
    return stages


def check(stages: list[Stage]) -> None:
    """What COPY names has to be there, and the last stage must not run as root."""
    names: set[str] = set()
    for stage in stages:
        for word, rest in stage.steps:
            if word == "COPY":
                source, *paths = copied(rest)
                if source and source not in names:
                    raise Failed(f"COPY {rest}: there is no stage {source} before it")
                missing = [path for path in paths[:-1] if not source and not (ROOT / path).exists()]
                if missing and missing != ["node_modules"]:
                    raise Failed(f"COPY {rest}: there is no {missing[0]}")
        names.add(stage.name)
    if stages[-1].user.split(":")[0] in {"0", "root"}:
        raise Failed("the image runs as root")


def copied(rest: str) -> list[str]:
    """The stage ("": the project's folder), the paths, and where to."""
    words = shlex.split(rest)
    source = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else ""
    return [source, *words]


class Build:
    """In a mount namespace of its own, so that nothing stays mounted."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder, self.base = folder, base
        self.roots: dict[str, Path] = {}

    def build(self, stage: Stage) -> Path:
        base = self.base if stage.image.startswith("python") else Path("/")
        root = self.roots[stage.name] = self._overlay(stage, base)
        folder = "/"
        for word, rest in stage.steps:
            say(f"[{stage.name}] {word} {rest}")
            if word == "WORKDIR":
                folder = rest
                within(root, folder).mkdir(parents=True, exist_ok=True)
            elif word == "COPY":
                self._copy(root, folder, *copied(rest))
            else:
                done = subprocess.run(
                    ["/bin/sh", "-c", rest],
                    preexec_fn=entering(root, folder),
                    env=outside(),
                    check=False,
                )
                if done.returncode:
                    raise Failed(f"[{stage.name}] RUN {rest}: exit code {done.returncode}")
        return root

    def _overlay(self, stage: Stage, base: Path) -> Path:
        upper, work, root = (self.folder / stage.name / part for part in ("upper", "work", "root"))
        for each in (upper, work, root):
            each.mkdir(parents=True)
        mount("-t", "overlay", "overlay", "-o", f"lowerdir={base},upperdir={upper},workdir={work}", root)
        mount("-t", "proc", "proc", within(root, "/proc"))
        mount("--rbind", "/dev", within(root, "/dev"))
        if base != Path("/"):  # as a container engine does; and this network's certificates
            for path in ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs"):
                if Path(path).exists():
                    target = within(root, path)
                    if Path(path).is_dir():
                        target.mkdir(parents=True, exist_ok=True)
                    else:
                        target.touch()
                    mount("--bind", path, target)
        return root

    def _copy(self, root: Path, folder: str, source: str, *paths: str) -> None:
        *sources, target = paths
        for path in sources:
            found = within(self.roots[source], path) if source else ROOT / path
            to = within(root, os.path.join(folder, target))
            if found.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(found, to, symlinks=True, dirs_exist_ok=True, ignore=ignored)
            else:
                if target.endswith(("/", ".")):
                    to.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, to)


def within(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def outside() -> dict[str, str]:
    """What steps of the build know: how to reach the registries."""
    passed = {name: value for name, value in os.environ.items() if name.upper().startswith(PASSED_ON)}
    return passed | {"PATH": PATH, "HOME": "/root"}


def entering(root: Path, folder: str, user: str = "0:0") -> Callable[[], None]:
    """Into the root. Anybody but root goes without privileges, and as the systemd units have it."""

    def enter() -> None:
        os.chroot(root)
        os.chdir(folder)
        if user != "0:0":
            uid, gid = map(int, user.split(":"))
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            libc = ctypes.CDLL(None, use_errno=True)
            libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
            libc.prctl(NO_WRITABLE_CODE, 1, 0, 0, 0)  # by older kernels it is refused, and all goes on

    return enter


class Container:
    """The image's command, as its user, on a read-only root with a volume."""

    def __init__(self, stage: Stage, root: Path, folder: Path) -> None:
        self.stage, self.root = stage, root
        self.folder = next(rest for word, rest in reversed(stage.steps) if word == "WORKDIR")
        volume = folder / "volume"
        volume.mkdir()
        uid, gid = map(int, stage.user.split(":"))
        os.chown(volume, uid, gid)
        mount("--bind", volume, within(root, stage.volume))
        mount("-t", "tmpfs", "tmpfs", within(root, "/tmp"))  # noqa: S108
        mount("-o", "remount,ro", root)

    def start(self, *command: str, **variables: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            env={"PATH": PATH, "HOME": self.stage.volume} | self.stage.environment | variables,
            preexec_fn=entering(self.root, self.folder, self.stage.user),  # noqa: PLW1509
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, **variables: str) -> tuple[int, str]:
        with self.start(*command, **variables) as process:
            said, _ = process.communicate(timeout=START_SECONDS)
        return process.returncode, said


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def try_it(container: Container) -> None:
    """Raises Failed."""
    image = container.stage
    code, said = container.run("sh", "-c", "id -u; touch manage.py thingscale/new /etc/new 2>&1 | sort -u")
    say(f"as user {said.strip()}")
    if said.count("Read-only file system") != 3:
        raise Failed("the root can be written to")
    code, said = container.run(*image.entrypoint, "manage.py", "ingest", THINGSCALE_SECRET_KEY=KNOWN_TO_ALL)
    say(f"with the secret of env.example: exit code {code}, {said.strip()}")
    if code != 3:
        raise Failed("it starts with a secret that everybody knows")
    names = ("THINGSCALE_HTTP_PORT", "THINGSCALE_MQTT_PORT", "THINGSCALE_MQTT_WS_PORT")
    ports = {name: str(free_port()) for name in names}
    began = time.monotonic()
    running = container.start(*image.entrypoint, *image.command, **ports)
    try:
        said = until_ready(running)
        say(f"ready after {time.monotonic() - began:.0f} s")
        account = dict(re.findall(r"│ (user id|API token|device token)\s+(\S+)", said))
        email, password = re.findall(r"│ console\s+(\S+)\s+password (\S+)", said)[0]
        base = f"http://127.0.0.1:{ports['THINGSCALE_HTTP_PORT']}"
        known = (account["user id"], account["device token"], account["API token"])
        job = [
            "python",
            "-c",
            MAIN_JOB.read_text(),
            base,
            ports["THINGSCALE_MQTT_PORT"],
            email,
            password,
            *known,
        ]
        code, said = container.run(*job)
        say(said.strip())
        if code:
            raise Failed("the main job does not work")
        healthy = [word.replace(":8000", base[base.rindex(":") :]) for word in image.healthcheck]
        code, said = container.run(*healthy)
        say(f"healthcheck: exit code {code} {said.strip()}".strip())
        if code:
            raise Failed("it is not healthy")
    finally:
        running.terminate()
    began = time.monotonic()
    said, _ = running.communicate(timeout=START_SECONDS)
    say(f"stopped in {time.monotonic() - began:.0f} s, exit code {running.returncode}")
    if running.returncode:
        raise Failed(f"it did not stop well: {said}")


def until_ready(running: "subprocess.Popen[str]") -> str:
    assert running.stdout
    said = ""
    for line in running.stdout:
        said += line
        if line.startswith("Ctrl-C"):
            return said
    raise Failed(f"it ended:\n{said}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", type=Path, default=Path("/"), help="what stands for python:...-slim")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="for the layers, 1 GB")  # noqa: S108
    parser.add_argument("--dockerfile", type=Path, default=DOCKERFILE)
    parser.add_argument("--list", action="store_true", help="the steps, and no more")
    options = parser.parse_args()
    try:
        stages = read(options.dockerfile.read_text())
        check(stages)
        if options.list:
            for stage in stages:
                say(f"{stage.name}: {stage.image}, as {stage.user}")
                for word, rest in stage.steps:
                    say(f"    {word} {rest}")
            return 0
        if os.getpid() != 1:  # again, in namespaces of its own, which end with it
            own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
            os.execvp(own[0], [*own, sys.executable, *sys.argv])  # noqa: S606
        folder = Path(tempfile.mkdtemp(prefix="thingscale-image-", dir=options.folder))
        try:
            build = Build(folder, options.base.resolve())
            roots = [build.build(stage) for stage in stages]
            try_it(Container(stages[-1], roots[-1], folder))
        finally:
            subprocess.run(["umount", "--recursive", "--lazy", *build.roots.values()], check=False)
            shutil.rmtree(folder, ignore_errors=True)
    except Failed as failed:
        sys.stderr.write(f"{failed}\n")
        return 1
    say("The image works.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
