"""Answers of Django compressed where the client asks: texts from 1 kB on, at a level that costs little.

Static files have their own way (static_files.py).
"""

import re
import zlib
from collections.abc import Callable, Iterator
from typing import cast

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.text import compress_string

from thingscale.web.encodings import choose

MIN_BYTES = 1024  # less fits into one packet anyway
LEVEL = 1  # three times as fast as the usual 6, for a tenth more bytes
TEXTS = re.compile(
    r"text/|application/([a-z.-]+\+)?(json|x-ndjson|yaml|javascript|xml)\b|application/vnd\.oai"
)
# Pages with tokens: the length of one compressed together with what an address put into it would tell of them
# (BREACH). The other pages get a random length. CSRF tokens are masked by Django, another one in each answer.
WITH_SECRETS = re.compile(r"/(profile|start)/")
RANDOM_BYTES = 100  # at most


class Compression:
    """Middleware, around all that makes answers."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._next(request)
        if not TEXTS.match(response.get("Content-Type", "")) or response.has_header("Content-Encoding"):
            return response
        patch_vary_headers(response, ["Accept-Encoding"])
        if not choose(request.headers.get("Accept-Encoding", ""), ["gzip"]):
            return response
        if WITH_SECRETS.match(request.path):
            return response
        if response.streaming:
            stream = cast(StreamingHttpResponse, response)
            stream.streaming_content = compressed(cast(Iterator[bytes], stream.streaming_content))
            del response["Content-Length"]
        elif not _compress(cast(HttpResponse, response)):
            return response
        response["Content-Encoding"] = "gzip"
        etag = response.get("ETag", "")
        if etag.startswith('"'):
            response["ETag"] = f"W/{etag}"  # the same to a reader, but not byte for byte
        return response


def _compress(response: HttpResponse) -> bool:
    if len(response.content) < MIN_BYTES:
        return False
    if response["Content-Type"].startswith("text/html"):
        response.content = compress_string(response.content, max_random_bytes=RANDOM_BYTES)
    else:
        response.content = b"".join(compressed(iter([response.content])))
    response["Content-Length"] = str(len(response.content))
    return True


def compressed(parts: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # as gzip
    for part in parts:
        if packed := packer.compress(part):
            yield packed
    yield packer.flush()
