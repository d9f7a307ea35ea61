"""Runs a supervisor over scripts: supervised.py FOLDER NAME ... Driven by signals, reports on stdout."""

import os
import sys
from pathlib import Path

from thingscale.local.child_process import Program
from thingscale.local.errors import StartError
from thingscale.local.managed_process import ManagedProcess
from thingscale.local.supervisor import Stopped, Supervisor

SCRIPT = """
import os, pathlib, signal, sys, time
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
def leave(number, frame):
    (folder / (name + ".asked")).touch()
    while "-" in name and len(list(folder.glob(name.split("-")[0] + "-*.asked"))) < 2:
        time.sleep(0.02)
    with (folder / "ended").open("a") as file:
        file.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if name == "stubborn" else leave)
if name == "broken":
    sys.exit("ERROR: it broke")
(folder / (name + ".pid.new")).write_text(str(os.getpid()))
(folder / (name + ".pid.new")).rename(folder / (name + ".pid"))
while not (folder / (name + ".error")).exists():
    time.sleep(0.02)
print("2026 ERROR something is wrong", flush=True)
time.sleep(60)
"""


class Script(ManagedProcess):
    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.stop_limit = 30.0
        self.group = name.split("-", maxsplit=1)[0] if "-" in name else ""

    def program(self) -> Program:
        (self.folder / f"{self.name}.pid").unlink(missing_ok=True)
        argv = [sys.executable, "-c", SCRIPT, str(self.folder), self.name]
        return Program(argv, log=self.folder / f"{self.name}.log")

    def ready(self) -> bool:
        return (self.folder / f"{self.name}.pid").exists()


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def main(folder: Path, names: list[str]) -> int:
    supervisor = Supervisor(say)
    with supervisor.signals():
        try:
            for name in names:
                supervisor.start(Script(name, folder))
            say("ready")
            supervisor.watch()
        except Stopped:
            pass
        except StartError as error:
            say(str(error))
            return 1
        finally:
            supervisor.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
