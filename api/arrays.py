"""Streams long arrays: a row is made when the one before it has been sent."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.renderers import JSONRenderer

MAX_WHOLE = 2**20  # bytes of an answer that is made before it is sent


def array(rows: Iterable[Any]) -> HttpResponseBase:
    return whole_if_small(_parts(rows), "application/json")


def whole_if_small(parts: Iterator[bytes], content_type: str) -> HttpResponseBase:
    """Makes a small answer before it sends it, so that it can have an ETag. Also few rows may have
    megabytes."""
    buffered: list[bytes] = []
    size = 0
    for part in parts:
        buffered.append(part)
        size += len(part)
        if size > MAX_WHOLE:
            return StreamingHttpResponse(chain(buffered, parts), content_type=content_type)
    return HttpResponse(b"".join(buffered), content_type=content_type)


def _parts(rows: Iterable[Any]) -> Iterator[bytes]:
    renderer = JSONRenderer()
    yield b"["
    for position, row in enumerate(rows):
        yield b"," * bool(position) + renderer.render(row)
    yield b"]"
