"""S4: every way to start without a secret key refuses with one sentence. S5: the list of keys."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stack import wait_until

from thingscale.lib.env import KNOWN_TO_ALL, BadSetting, secret_keys

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
LAST_SECONDS = 10  # from the first word of a refusal to its end, on a busy machine
SENTENCE = (
    "There is no secret key: set THINGSCALE_SECRET_KEY to a long random text,"
    " or start with `manage.py up`, which makes one.\n"
)
WAYS = {
    "uvicorn": ["-m", "uvicorn", "thingscale.asgi:application", "--port", "0"],
    "an ASGI server": ["-c", "import thingscale.asgi"],
    "a WSGI server, as gunicorn": ["-c", "import thingscale.wsgi"],
    "runserver": ["manage.py", "runserver", "--noreload", "--skip-checks", "127.0.0.1:0"],
    "ingest": ["manage.py", "ingest"],
    "celery": ["-m", "celery", "-A", "thingscale", "worker", "--pool", "threads"],
    "celery beat": ["-m", "celery", "-A", "thingscale", "beat", "--schedule", "{folder}/beat"],
    "a command that needs it": [
        "manage.py",
        "shell",
        "-c",
        "from django.core import signing as s; s.dumps(0)",
    ],
}


def run(
    arguments: list[str], folder: Path, last_seconds: float = 60, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """To its end, or for so long after its first word: what starts in earnest would go on."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("THINGSCALE_")}
    command = [sys.executable, *(argument.replace("{folder}", str(folder)) for argument in arguments)]
    files = folder / "stdout", folder / "stderr"
    with files[0].open("w") as stdout, files[1].open("w") as stderr:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**known, "THINGSCALE_HOME": str(folder), **variables},
            stdout=stdout,
            stderr=stderr,
            process_group=0,
        )

        def ended_or_said_something() -> bool:
            return process.poll() is not None or any(file.stat().st_size for file in files)

        try:
            wait_until(ended_or_said_something, 60, "a word")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(last_seconds)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    said = [file.read_text() for file in files]
    return subprocess.CompletedProcess(command, process.wait(), *said)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("key", ["", KNOWN_TO_ALL])
def test_s4_every_way_to_start_without_a_secret_key_refuses_with_one_sentence(
    tmp_path: Path, way: str, key: str
) -> None:
    done = run(WAYS[way], tmp_path, LAST_SECONDS, THINGSCALE_SECRET_KEY=key)
    assert done.returncode == 3, done.stderr
    assert done.stderr.endswith(SENTENCE)
    assert "Traceback" not in done.stderr


def test_s4_what_needs_no_key_works_without(tmp_path: Path) -> None:
    done = run(["manage.py", "makemigrations", "--check", "--dry-run"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "thingscale.W001" in done.stderr


def test_s4_a_short_key_is_warned_of(tmp_path: Path) -> None:
    assert "thingscale.W003" in run(["manage.py", "check"], tmp_path, THINGSCALE_SECRET_KEY="short").stderr
    assert "W003" not in run(["manage.py", "check"], tmp_path, THINGSCALE_SECRET_KEY="long" * 10).stderr


@pytest.mark.parametrize(
    ("several", "one", "file", "keys"),
    [
        ("", "", None, []),
        ("", "", "", []),
        ("", "", "made by up", ["made by up"]),
        ("", "", "new\nold\n\n", ["new", "old"]),
        ("", " spaces, and commas ", "file", [" spaces, and commas "]),
        ("new, old", "", "file", ["new", "old"]),
        ("new,old", "old", "file", ["new", "old"]),
        (f"new,{KNOWN_TO_ALL}", "", None, ["new", KNOWN_TO_ALL]),
        (f"{KNOWN_TO_ALL},old", "", None, []),
        (",", "", None, []),
    ],
)
def test_s5_where_the_keys_come_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, several: str, one: str, file: str | None, keys: list[str]
) -> None:
    monkeypatch.setenv("THINGSCALE_SECRET_KEYS", several)
    monkeypatch.setenv("THINGSCALE_SECRET_KEY", one)
    if file is not None:
        (tmp_path / "secret_key").write_text(file)
    assert secret_keys(tmp_path / "secret_key") == keys


def test_s5_a_key_that_is_not_in_the_list_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THINGSCALE_SECRET_KEYS", "new,older")
    monkeypatch.setenv("THINGSCALE_SECRET_KEY", "old")
    with pytest.raises(BadSetting, match="has to list"):
        secret_keys(tmp_path / "secret_key")
    monkeypatch.setenv("THINGSCALE_SECRET_KEYS", "")
    monkeypatch.setenv("THINGSCALE_SECRET_KEY", "")
    with pytest.raises(BadSetting, match="can't be read"):
        secret_keys(tmp_path)  # a folder
