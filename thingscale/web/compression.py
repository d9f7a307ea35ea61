"""Compresses Django's answers if the client asks for it: texts from 1 kB on, at a level that costs little.

Static files are compressed by static_files.py.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from typing import cast

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.text import compress_string

from thingscale.web.accept_encoding import choose_encoding

MIN_BYTES = 1024  # less fits into one packet anyway
LEVEL = 1  # three times as fast as the usual 6, for a tenth more bytes
TEXTS = re.compile(
    r"text/|application/([a-z.-]+\+)?(json|x-ndjson|yaml|javascript|xml)\b|application/vnd\.oai"
)
# Pages with tokens are not compressed: together with text from the page's address, the length would reveal a
# token (BREACH). The other pages get a random length. CSRF tokens are masked by Django, differently in each
# answer.
WITH_SECRETS = re.compile(r"/(profile|start)/")
RANDOM_BYTES = 100  # at most


class Compression:
    """The outermost middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._next(request)
        if not TEXTS.match(response.get("Content-Type", "")) or response.has_header("Content-Encoding"):
            return response
        patch_vary_headers(response, ["Accept-Encoding"])
        if not choose_encoding(request.headers.get("Accept-Encoding", ""), ["gzip"]):
            return response
        if WITH_SECRETS.match(request.path):
            return response
        if response.streaming:
            stream = cast(StreamingHttpResponse, response)
            stream.streaming_content = compressed(cast(Iterator[bytes], stream.streaming_content))
            del response["Content-Length"]
        else:
            whole = cast(HttpResponse, response)
            if len(whole.content) < MIN_BYTES:
                return response
            if whole["Content-Type"].startswith("text/html"):
                whole.content = compress_string(whole.content, max_random_bytes=RANDOM_BYTES)
            else:
                whole.content = b"".join(compressed(iter([whole.content])))
            whole["Content-Length"] = str(len(whole.content))
        response["Content-Encoding"] = "gzip"
        etag = response.get("ETag", "")
        if etag.startswith('"'):
            response["ETag"] = f"W/{etag}"  # the same to a reader, but not byte for byte
        return response


def compressed(parts: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # as gzip
    for part in parts:
        if packed := packer.compress(part):
            yield packed
    yield packer.flush()
