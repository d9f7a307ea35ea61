"""Serves the platform as a host that knows WSGI only would, with the server of the standard library.

python wsgi_server.py --port PORT
"""

import argparse
import os
import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server


class Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Keys of intakes are in paths."""


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thingscale.settings")
    from thingscale.wsgi import application

    make_server("127.0.0.1", arguments.parse_args().port, application, Threads, Quiet).serve_forever()
