"""Arrays that may be long: each row is made when the one before it has been sent."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.renderers import JSONRenderer

WHOLE = 2**20  # bytes; up to this an answer is made before it is sent


def array(rows: Iterable[Any]) -> HttpResponseBase:
    return whole_if_small(_parts(rows), "application/json")


def whole_if_small(parts: Iterator[bytes], content_type: str) -> HttpResponseBase:
    """Only what is made before it is sent has an ETag. Few rows may have megabytes."""
    begun: list[bytes] = []
    size = 0
    for part in parts:
        begun.append(part)
        size += len(part)
        if size > WHOLE:
            return StreamingHttpResponse(chain(begun, parts), content_type=content_type)
    return HttpResponse(b"".join(begun), content_type=content_type)


def _parts(rows: Iterable[Any]) -> Iterator[bytes]:
    renderer = JSONRenderer()
    yield b"["
    for position, row in enumerate(rows):
        yield b"," * bool(position) + renderer.render(row)
    yield b"]"
