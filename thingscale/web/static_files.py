"""Static files, outside of Django and of its threads: a client that reads slowly holds up nobody.

The addresses in our pages have a version, made from the contents of all files together: browsers keep them
for a year and never ask again. It stands in front of the path, so that one file may name another by a
relative path. Each file is read, and compressed as well as it goes, when it is first asked for, and then
kept: there is no build step to forget.
"""

import asyncio
import hashlib
import mimetypes
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

from thingscale.web.encodings import IDENTITY, choose
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
    """The files by name. Of two with one name the first counts, as everywhere in Django."""
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
    """What `{% static %}` gives."""

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
        if name not in found() and (current or is_version(asked)):
            name = rest
        if name not in found():
            await answer(send, 404, {"cache-control": "no-cache"}, b"There is no such file.")
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        encoding = choose(headers.get("accept-encoding", ""), ("br", "gzip") if compressible(name) else ())
        file = await self._file(name, encoding)
        shown = {**file.headers, "cache-control": FOR_A_YEAR if current else ASK_EACH_TIME}
        known = [each.strip() for each in headers.get("if-none-match", "").split(",")]
        if file.etag in known:
            await answer(send, 304, shown, b"")
        else:
            shown["content-length"] = str(len(file.body))
            await answer(send, 200, shown, file.body if scope["method"] == "GET" else b"")

    async def _file(self, name: str, encoding: str) -> StaticFile:
        file = None if settings.DEBUG else self._kept.get((name, encoding))
        if file is None:
            loop = asyncio.get_running_loop()
            file = await loop.run_in_executor(self._reader, self._load, name, encoding)
        return file

    def _load(self, name: str, encoding: str) -> StaticFile:
        """In the one thread that reads, so that many who ask at once have it done once."""
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


def is_version(text: str) -> bool:
    return len(text) == 12 and all(character in "0123456789abcdef" for character in text)


async def answer(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """With its body in parts: the server takes the next one when the client has read enough."""
    if status >= 400:
        headers = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body)), **headers}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    for start in range(0, len(body), PART):
        await send({"type": "http.response.body", "body": body[start : start + PART], "more_body": True})
    last: Message = {"type": "http.response.body", "body": b"", "more_body": False}
    await send(last)
