"""Builds the bytes of HTTP answers."""

import http
from functools import lru_cache
from typing import NamedTuple

import orjson

from thingscale.web.http_parser import BadRequest

_AS_USUAL = {
    name.lower(): name
    for name in (b"ETag", b"RateLimit", b"RateLimit-Policy", b"TE", b"WWW-Authenticate", b"X-XSS-Protection")
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"Connection: close\r\n"
KEEP_ALIVE = b"Connection: keep-alive\r\n"  # HTTP/1.0 clients expect it


class Response(NamedTuple):
    """A whole answer. The connection adds Date, Connection and the empty line to `head`."""

    head: bytes
    body: bytes


@lru_cache(600)
def status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


@lru_cache(1000)
def usual_name(name: bytes) -> bytes:
    """`content-length` -> `Content-Length`: small clients look for a header by comparing bytes."""
    name = name.lower()
    return _AS_USUAL.get(name) or b"-".join(part.capitalize() for part in name.split(b"-"))


def header_line(name: bytes, value: bytes) -> bytes:
    if b"\r" in value or b"\n" in value or b"\0" in value:
        raise ValueError(f"The header {name.decode('latin-1')} would end before its value does.")
    return b"%s: %s\r\n" % (usual_name(name), value)


def response(status: int, headers: dict[str, str], body: bytes) -> Response:
    """Adds Content-Length."""
    lines = [header_line(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Response(b"".join((status_line(status), *lines, b"Content-Length: %d\r\n" % len(body))), body)


def refusal(error: BadRequest, path: str | None) -> Response:
    """In the API's form, if the path is one of the API. `path` is None if the head could not be read."""
    if path is not None and path.startswith(("/v1/", "/v2/")):
        body = orjson.dumps({"error": error.code, "detail": error.detail})
        return response(error.status, {"content-type": "application/json"}, body)
    text = f"{error.code}: {error.detail}".encode()
    return response(error.status, {"content-type": "text/plain; charset=utf-8"}, text)
