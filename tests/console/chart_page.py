"""A page with nothing but a chart, and a server for it that answers what a test says."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from console.middleware import POLICY

ROOT = Path(__file__).parent.parent.parent
UPLOT = ROOT / "node_modules" / "uplot" / "dist"
PAGE = """<!doctype html><html lang="en"><head><title>Charts</title><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="/static/console/console.css">
<link rel="stylesheet" href="/static/vendor/uplot/uPlot.min.css">
<script src="/static/vendor/uplot/uPlot.iife.min.js" defer></script>
<script type="module" src="/static/console/chart.js"></script></head><body><main class="main"><h1>Charts</h1>
<section class="charts" aria-label="Charts" data-src="/chart.json?range=24h" data-zone="%(zone)s"
 data-channel="7" data-event-new="/alerts/events/new/" data-icons="/static/console/icons.svg"
 %(live)s></section></main></body></html>"""

Json = dict[str, Any]


class Site:
    """`answer` is the chart's JSON, or a status and a JSON; `asked` the query of each request for it."""

    def __init__(self) -> None:
        self.answer: Json | tuple[int, Json] = {}
        self.asked: list[dict[str, str]] = []
        self.page = ""
        self.url = ""

    def show(self, answer: Json | tuple[int, Json], zone: str = "UTC", live: bool = False) -> None:
        self.answer = answer
        self.asked.clear()
        self.page = PAGE % {"zone": zone, "live": "data-live" if live else ""}


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, site: Site, *arguments: Any) -> None:
        self.site = site
        super().__init__(*arguments)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/":
            self._send(HTTPStatus.OK, "text/html", self.site.page.encode())
        elif url.path == "/alerts/events/new/":
            self._send(HTTPStatus.OK, "text/html", b"<!doctype html><title>New event</title>")
        elif url.path == "/chart.json":
            self.site.asked.append({name: values[0] for name, values in parse_qs(url.query).items()})
            answer = self.site.answer
            status, body = answer if isinstance(answer, tuple) else (HTTPStatus.OK, answer)
            self._send(status, "application/json", json.dumps(body).encode())
        else:
            super().do_GET()

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def translate_path(self, path: str) -> str:
        name = urlsplit(path).path.removeprefix("/static/")
        vendor = "vendor/uplot/"
        return str(UPLOT / name.removeprefix(vendor) if name.startswith(vendor) else ROOT / "static" / name)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serve() -> Iterator[Site]:
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, site))
    site.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()
