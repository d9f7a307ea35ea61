"""One of our processes, which writes down the calls of its own functions while somebody wants it.

    python traced_process.py SWITCH CALLS ingest
    python traced_process.py SWITCH CALLS web PORT
    python traced_process.py SWITCH CALLS wsgi PORT

The first byte of the file SWITCH turns it on and off. Each process, and each that it forks, appends a line to
the file CALLS for each call: process, thread, file, function. The lines are in the order of the calls, since
each is written before the function runs. The product has no hook for this. `wsgi` serves as a host that
knows WSGI only would, with the server of the standard library.
"""

import mmap
import os
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
OURS = tuple(f"{ROOT / package}/" for package in ("api", "console", "ingest", "thingscale"))
# A comprehension is read where it stands.
NO_FUNCTIONS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}


def main(switch_path: str, calls_path: str, name: str, port: str = "") -> None:
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
    threading.setprofile(record)  # for threads that begin later; the store's process inherits both
    sys.setprofile(record)
    match name:
        case "ingest":
            from django.core.management import execute_from_command_line

            execute_from_command_line(["manage.py", "ingest"])
        case "web":
            import uvicorn

            from thingscale.web.http_protocol import HttpProtocol

            uvicorn.run("thingscale.asgi:application", http=HttpProtocol, port=int(port))
        case "wsgi":
            from wsgiref.simple_server import make_server

            from thingscale.wsgi import application

            make_server("127.0.0.1", int(port), application).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
