"""Static files: versioned for a year, compressed, and outside of Django's threads."""

import asyncio
import gzip
import re
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import requests
from django.contrib.staticfiles.storage import staticfiles_storage
from pytest_django import Settings
from stack import Stack

from thingscale.version import VERSION
from thingscale.web import static_files
from thingscale.web.accept_encoding import choose_encoding
from thingscale.web.static_files import StaticFiles, found, version

CSS = "console/console.css"


class Answer:
    def __init__(self, messages: list[Any]) -> None:
        self.status: int = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.body = b"".join(message["body"] for message in messages[1:])
        self.parts = [len(message["body"]) for message in messages[1:]]


def ask(path: str, method: str = "GET", **headers: str) -> Answer:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": encoded}
    asyncio.run(StaticFiles()(scope, receive, send))
    return Answer(sent)


def test_c11_a_page_names_files_that_are_kept_for_a_year() -> None:
    url = staticfiles_storage.url(CSS)
    assert url == f"/static/{version()}/{CSS}"
    answer = ask(url)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.body == found()[CSS].read_bytes()


@pytest.mark.parametrize("path", [f"/static/{CSS}", f"/static/0123456789ab/{CSS}"])
def test_c11_any_other_version_is_asked_for_each_time(path: str) -> None:
    """That of the last release, too: a page that was open before an upgrade goes on working."""
    answer = ask(path)
    assert (answer.status, answer.headers["cache-control"]) == (200, "public, no-cache")
    assert ask(path, if_none_match=answer.headers["etag"]).status == 304
    assert ask(path, if_none_match=f'"x", {answer.headers["etag"]}').body == b""
    assert ask(path, if_none_match='"x"').status == 200


def test_c11_the_version_is_that_of_what_the_files_contain(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for files in ({"a.js": "1"}, {"a.js": "2"}, {"b.js": "1"}, {"a.js": "1", "b.js": ""}):
        paths = {name: tmp_path / name for name in files}
        for name, text in files.items():
            paths[name].write_text(text)
        monkeypatch.setattr(static_files, "found", lambda paths=paths: paths)
        seen.add(version.__wrapped__())
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("encoding", "read"), [("gzip", gzip.decompress), ("br", brotli.decompress), ("", bytes)]
)
@pytest.mark.parametrize("name", [CSS, "vendor/uplot/uPlot.iife.min.js", "admin/js/vendor/jquery/jquery.js"])
def test_c11_files_are_compressed_as_asked(name: str, encoding: str, read: Callable[[bytes], bytes]) -> None:
    answer = ask(f"/static/{name}", accept_encoding=encoding)
    assert answer.headers.get("content-encoding", "") == encoding
    assert answer.headers["vary"] == "Accept-Encoding"
    assert read(answer.body) == found()[name].read_bytes()
    assert int(answer.headers["content-length"]) == len(answer.body)
    if encoding:
        assert len(answer.body) < len(found()[name].read_bytes()) / 2
    assert max(answer.parts) <= static_files.PART


def test_each_encoding_has_an_etag_of_its_own() -> None:
    tags = {ask(f"/static/{CSS}", accept_encoding=each).headers["etag"] for each in ("", "gzip", "br")}
    assert len(tags) == 3


@pytest.mark.parametrize("name", ["console/icon.svg", "rest_framework/fonts/fontawesome-webfont.woff"])
def test_what_is_small_or_compressed_already_is_left_alone(name: str) -> None:
    answer = ask(f"/static/{name}", accept_encoding="gzip, br")
    assert "content-encoding" not in answer.headers
    assert answer.body == found()[name].read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "/static/nothing.css",
        "/static/",
        "/static//etc/passwd",
        "/static/../manage.py",
        "/static/console/../../manage.py",
        "/static/0123456789ab/nothing.css",
        "/static/elsewhere/console/console.css",
    ],
)
def test_there_is_nothing_else(path: str) -> None:
    answer = ask(path)
    assert (answer.status, answer.body) == (404, b"There is no such file.")


def test_files_can_only_be_read() -> None:
    assert ask(f"/static/{CSS}", "POST").status == 405
    head = ask(f"/static/{CSS}", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) == len(found()[CSS].read_bytes())


def test_in_development_a_change_is_there_at_once(
    tmp_path: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DEBUG = True
    file = tmp_path / "a.css"
    monkeypatch.setattr(static_files, "found", lambda: {"a.css": file})
    for text in ("one", "two"):
        file.write_text(text)
        assert ask("/static/a.css").body.decode() == text
    assert staticfiles_storage.url(CSS) == f"/static/{CSS}"


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "br"),
        ("gzip;q=1.0, br;q=0", "gzip"),
        ("br;q=0, *", "gzip"),
        ("*;q=0", ""),
        ("identity", ""),
        ("BR ; q=0.1", "br"),
        ("gzip;q=x", ""),
        ("x-gzip, , ;", ""),
    ],
)
def test_h9_which_encoding(asked: str, chosen: str) -> None:
    assert choose_encoding(asked, ["br", "gzip"]) == chosen


@pytest.mark.e2e
def test_c11_over_the_wire(stack: Callable[..., Stack]) -> None:
    running = stack("web")
    page = requests.get(running.url("/signin/"), timeout=60).text
    links = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    assert len(links) >= 3
    for link in links:
        answer = requests.get(running.url(link), timeout=60, headers={"Accept-Encoding": "gzip"})
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers.get("Content-Encoding") == ("gzip" if len(answer.content) >= 1024 else None)
    assert requests.get(running.url("/static/no.css"), timeout=60).status_code == 404
    assert requests.get(running.url("/healthz"), timeout=60).text == f"OK {VERSION}"
    assert requests.head(running.url("/readyz"), timeout=60).status_code == 200
    assert requests.post(running.url("/readyz"), timeout=60).status_code == 405
