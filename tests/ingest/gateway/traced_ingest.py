"""`manage.py ingest`, which writes down the calls of its own functions while a test wants it.

    python traced_ingest.py SWITCH CALLS

The first byte of the file SWITCH turns it on and off. Both processes, the gateway and the store that it
forks, append a line to the file CALLS for each call: process, thread, file, function. The lines are in the
order of the calls, since each is written before the function runs. The product has no hook for this.
"""

import mmap
import os
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[3]
OURS = (f"{ROOT / 'ingest'}/", f"{ROOT / 'thingscale'}/")
# A comprehension is read where it stands.
NO_FUNCTIONS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}


def main(switch_path: str, calls_path: str) -> None:
    with Path(switch_path).open("r+b") as file:
        switch = mmap.mmap(file.fileno(), 1)
    calls = os.open(calls_path, os.O_WRONLY | os.O_APPEND)

    def record(frame: FrameType, event: str, argument: Any) -> None:
        if not switch[0]:
            return
        where, what = "", ""
        if event == "call":
            code = frame.f_code
            if code.co_filename.startswith(OURS) and code.co_name not in NO_FUNCTIONS:
                where, what = code.co_filename.removeprefix(f"{ROOT}/"), code.co_qualname
        elif event == "c_call" and argument.__name__ == "sendall":
            where, what = "-", "sendall"
        if where:
            os.write(calls, f"{os.getpid()} {threading.get_ident()} {where} {what}\n".encode())

    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thingscale.settings")
    from django.core.management import execute_from_command_line

    threading.setprofile(record)  # for threads that begin later; the store's process inherits both
    sys.setprofile(record)
    execute_from_command_line(["manage.py", "ingest"])


if __name__ == "__main__":
    main(*sys.argv[1:])
