"""`with_servers` around a command."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

from .helpers import PROJECT, alive, clean_environment, local_command, run_local, until


def test_exit_code_and_variables() -> None:
    code = "import os, sys; print(os.environ['REDIS_URL'], 'DATABASE_URL' in os.environ); sys.exit(7)"
    done = run_local("with_servers", "--only", "valkey", "--", sys.executable, "-c", code)
    assert done.returncode == 7
    url, database = done.stdout.split()
    assert database == "False"
    assert url.startswith("unix:///")
    assert not Path(url.removeprefix("unix://")).exists()


def test_a_command_killed_by_a_signal() -> None:
    code = "import os; os.kill(os.getpid(), 9)"
    done = run_local("with_servers", "--only", "valkey", "--", sys.executable, "-c", code)
    assert done.returncode == 137


def test_given_servers_are_used() -> None:
    code = "import os; print(os.environ['REDIS_URL'], os.environ['THINGSCALE_HOME'])"
    command = ["with_servers", "--only", "valkey", "--", sys.executable, "-c", code]
    done = run_local(*command, REDIS_URL="redis://given:6379/0")
    assert done.stdout.split()[0] == "redis://given:6379/0"


def test_python_is_ours() -> None:
    done = run_local(
        "with_servers", "--only", "valkey", "--", "python", "-c", "import sys; print(sys.executable)"
    )
    assert done.stdout.strip() == sys.executable


def test_a_missing_command_and_wrong_names() -> None:
    assert run_local("with_servers", "--only", "valkey", "--", "no-such-program").returncode != 0
    assert run_local("with_servers", "--only", "oracle", "--", "true").returncode == 2
    assert run_local("with_servers", "--only", "valkey").returncode == 2


def start_sleeper() -> tuple[subprocess.Popen[str], Path, int]:
    """A with_servers around a command that sleeps; the folder of its socket, and the command's process."""
    code = "import os, time; print(os.getpid(), os.environ['REDIS_URL'], flush=True); time.sleep(60)"
    process = subprocess.Popen(
        local_command("with_servers", "--only", "valkey", "--", sys.executable, "-c", code),
        env=clean_environment(),
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    pid, url = process.stdout.readline().split()
    return process, Path(url.removeprefix("unix://")).parents[1], int(pid)


def test_terminated_it_takes_all_with_it() -> None:
    process, home, command = start_sleeper()
    with process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not alive(command)
    assert not home.exists()


def test_killed_it_takes_the_processes_with_it() -> None:
    process, home, command = start_sleeper()
    with process:
        process.kill()
        process.wait(60)
    until(lambda: not alive(command))
    until(lambda: not (home / "run" / "valkey.sock").exists())
    shutil.rmtree(home.parent)
