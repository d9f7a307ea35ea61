"""Serves static files without Django and its threads, so that a client that reads slowly holds up nobody.

Their addresses in our pages begin with a version, made from the contents of all files: browsers keep the
files for a year and never ask again. The version is in front of the path, so that one file may name another
by a relative path. Each file is read and compressed when it is first asked for, and then kept in memory:
there is no build step.
"""

import asyncio
import hashlib
import mimetypes
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from gzip import compress as gzip
from pathlib import Path
from typing import NamedTuple

import brotli
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.storage import StaticFilesStorage

from thingscale.web.accept_encoding import IDENTITY, choose_encoding
from thingscale.web.request_body import Message, Receive, Scope, Send

FOR_A_YEAR = "public, max-age=31536000, immutable"
ASK_EACH_TIME = "public, no-cache"  # a name without a version, or with that of another release
PART = 64 * 1024  # bytes handed to the server at once
MIN_COMPRESSED = 1024  # bytes; a smaller file is one packet anyway
COMPRESSED = {".css", ".html", ".js", ".json", ".map", ".mjs", ".svg", ".txt", ".xml", ".eot", ".ttf"}
MAX_BEST_LEVEL = 256 * 1024  # bytes; brotli's best level takes two seconds for 1.5 MB
TYPES = mimetypes.MimeTypes()  # Python's own table: that of the machine may call scripts anything
for _ending in (".js", ".mjs"):
    TYPES.add_type("text/javascript", _ending)


@cache
def found() -> Mapping[str, Path]:
    """The files by name. The first of several with the same name counts, as everywhere in Django."""
    files: dict[str, Path] = {}
    for finder in get_finders():
        for name, storage in finder.list([]):
            prefix = getattr(storage, "prefix", None)
            files.setdefault(f"{prefix}/{name}" if prefix else name, Path(storage.path(name)))
    return files


@cache
def version() -> str:
    digest = hashlib.blake2b(digest_size=6)
    for name, path in sorted(found().items()):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


class VersionedStorage(StaticFilesStorage):
    """Makes the addresses of `{% static %}`."""

    def url(self, name: str | None) -> str:
        return super().url(name if settings.DEBUG or not name else f"{version()}/{name}")


class StaticFile(NamedTuple):
    body: bytes
    etag: str
    headers: dict[str, str]


class StaticFiles:
    """An ASGI application for the paths below STATIC_URL."""

    def __init__(self) -> None:
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="static")
        self._kept: dict[tuple[str, str], StaticFile] = {}  # bounded: each file there is, in three encodings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in {"GET", "HEAD"}:
            await answer(send, 405, {"allow": "GET, HEAD"}, b"Static files can only be read.")
            return
        name = scope["path"].removeprefix(settings.STATIC_URL)
        asked, _, rest = name.partition("/")
        current = not settings.DEBUG and asked == version()
        is_version = re.fullmatch("[0-9a-f]{12}", asked)
        if name not in found() and (current or is_version):
            name = rest
        if name not in found():
            await answer(send, 404, {"cache-control": "no-cache"}, b"There is no such file.")
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        encoding = choose_encoding(
            headers.get("accept-encoding", ""), ("br", "gzip") if compressible(name) else ()
        )
        file = None if settings.DEBUG else self._kept.get((name, encoding))
        if file is None:
            loop = asyncio.get_running_loop()
            file = await loop.run_in_executor(self._reader, self._load, name, encoding)
        shown = {**file.headers, "cache-control": FOR_A_YEAR if current else ASK_EACH_TIME}
        known = [each.strip() for each in headers.get("if-none-match", "").split(",")]
        if file.etag in known:
            await answer(send, 304, shown, b"")
        else:
            shown["content-length"] = str(len(file.body))
            await answer(send, 200, shown, file.body if scope["method"] == "GET" else b"")

    def _load(self, name: str, encoding: str) -> StaticFile:
        """Runs in the only thread that reads files, so that many requests at once load a file once."""
        if not settings.DEBUG and (name, encoding) in self._kept:
            return self._kept[name, encoding]
        path = found()[name]
        body = path.read_bytes()
        etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}{encoding}"'
        content_type = TYPES.guess_type(path.name)[0] or "application/octet-stream"
        if content_type.startswith("text/"):
            content_type += "; charset=utf-8"
        headers = {"content-type": content_type, "etag": etag, "x-content-type-options": "nosniff"}
        if compressible(name):
            headers["vary"] = "Accept-Encoding"
        if encoding != IDENTITY:
            body = compress(body, encoding)
            headers["content-encoding"] = encoding
        self._kept[name, encoding] = StaticFile(body, etag, headers)
        return self._kept[name, encoding]


@cache
def compressible(name: str) -> bool:
    path = found()[name]
    return path.suffix in COMPRESSED and path.stat().st_size >= MIN_COMPRESSED


def compress(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip(body, mtime=0)
    return bytes(brotli.compress(body, quality=11 if len(body) <= MAX_BEST_LEVEL else 9))


async def answer(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Sends the body in parts: the server takes the next one when the client has read enough."""
    if status >= 400:
        headers = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body)), **headers}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    for start in range(0, len(body), PART):
        await send({"type": "http.response.body", "body": body[start : start + PART], "more_body": True})
    last: Message = {"type": "http.response.body", "body": b"", "more_body": False}
    await send(last)
