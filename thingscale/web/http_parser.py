"""Parses HTTP/1.1 requests (RFC 9112), without sockets and clocks.

This is an own parser because the others stop at `Upgrade: h2c` and read the body as the next request, keep
white space around a header's value, or collect a head without end. It parses a head as a whole: heads are
small, and most devices send the same one again and again.
"""

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

MAX_HEAD = 64 * 1024  # bytes, the request line with them
MAX_HEADERS = 100
MAX_TARGET = 16 * 1024  # bytes; proxies and browsers send half of that at most
MAX_NAMES = 1000  # of headers, remembered
MAX_CHUNK_LINE = 1024  # bytes: a size, and extensions that nobody uses
MAX_LENGTH_DIGITS = 20

_HEAD_END = re.compile(rb"\n\r?\n")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
_TEXT = bytes(code for code in range(256) if code >= 0x20 and code != 0x7F) + b"\t"  # of a header's value
_NUMBER = re.compile(rb"[0-9]+")


class BadRequest(Exception):
    """The connection can't go on, since it is unclear where the next request begins."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class Request(NamedTuple):
    """The head of a request."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    minor: int  # of the version: 0 or 1
    headers: list[tuple[bytes, bytes]]  # names in lower case
    fields: Mapping[bytes, bytes]  # the headers by name; the last one of several with the same name
    length: int | None  # Content-Length
    chunked: bool
    keep_alive: bool
    expects_continue: bool
    websocket: bool  # it asks for an upgrade to WebSocket

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.length)


def head_end(data: bytes | bytearray, searched: int = 0) -> int:
    """The length of the head at the beginning of `data`, with its empty line; 0 if its end has not come yet.
    The first `searched` bytes have been searched before. Raises BadRequest if the head is too large."""
    found = _HEAD_END.search(data, max(searched - 3, 0))
    end = found.end() if found else 0
    if end > MAX_HEAD or (not end and len(data) > MAX_HEAD):
        line = data[: MAX_TARGET + 64].find(b"\n")
        if line < 0:
            raise BadRequest(414, "URI_TOO_LONG", f"A request's target has at most {MAX_TARGET} bytes.")
        raise BadRequest(431, "HEAD_TOO_LARGE", f"A request's head has at most {MAX_HEAD} bytes.")
    if not end and searched <= MAX_TARGET < len(data) and data.find(b"\n", 0, MAX_TARGET + 64) < 0:
        raise BadRequest(414, "URI_TOO_LONG", f"A request's target has at most {MAX_TARGET} bytes.")
    return end


def parse_head(head: bytes) -> Request:
    """`head` with its empty line. Raises BadRequest."""
    lines = head.removesuffix(b"\n").removesuffix(b"\r").removesuffix(b"\n").split(b"\n")
    if len(lines) > MAX_HEADERS + 1:
        raise BadRequest(431, "HEAD_TOO_LARGE", f"A request has at most {MAX_HEADERS} headers.")
    line = lines[0].removesuffix(b"\r")
    found = _REQUEST_LINE.fullmatch(line)
    if found is None and len(line) <= MAX_TARGET:
        raise BadRequest(400, "BAD_REQUEST", "The request line is not METHOD, target and HTTP version.")
    if found and found[3] != b"1":
        raise BadRequest(505, "HTTP_VERSION", "This server speaks HTTP/1.1 and HTTP/1.0.")
    if found is None or len(found[2]) > MAX_TARGET:
        raise BadRequest(414, "URI_TOO_LONG", f"A request's target has at most {MAX_TARGET} bytes.")
    method, target, minor = found[1].decode(), found[2], min(int(found[4]), 1)
    headers = [_header(line.removesuffix(b"\r")) for line in lines[1:]]
    fields = dict(headers)
    length, chunked = _body_length(headers, fields, minor)
    target = _origin_form(method, target, headers, fields, minor)
    raw_path, _, query = target.partition(b"?")
    # Each byte that is not UTF-8 would become the same character: three ids would be one.
    try:
        path = (unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path).decode()
    except UnicodeDecodeError:
        raise BadRequest(400, "BAD_PARAMETER", "The path is not UTF-8.") from None
    try:
        if b"%" in query:
            unquote_to_bytes(query).decode()
    except UnicodeDecodeError:
        raise BadRequest(400, "BAD_PARAMETER", "The query is not UTF-8.") from None
    connection = _tokens(headers, b"connection") if b"connection" in fields else ()
    return Request(
        method,
        path,
        raw_path,
        query,
        minor,
        headers,
        fields,
        length,
        chunked,
        b"close" not in connection if minor else b"keep-alive" in connection,
        minor > 0 and b"expect" in fields and b"100-continue" in _tokens(headers, b"expect"),
        method == "GET"
        and b"upgrade" in connection
        and b"websocket" in _tokens(headers, b"upgrade")
        and not length
        and not chunked,
    )


_known_names: dict[bytes, bytes] = {}  # as clients write them -> in lower case


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    known = _known_names.get(name)
    if known is None:
        if not colon or not _NAME.fullmatch(name):
            raise BadRequest(400, "BAD_REQUEST", "A header is not a name, a colon and a value.")
        known = name.lower()
        if len(name) < 64:
            if len(_known_names) >= MAX_NAMES:  # by a client that makes them up; the usual ones come again
                _known_names.clear()
            _known_names[name] = known
    elif not colon:
        raise BadRequest(400, "BAD_REQUEST", "A header is not a name, a colon and a value.")
    if value.translate(None, _TEXT):
        raise BadRequest(400, "BAD_REQUEST", "A header's value has a control character.")
    return known, value.strip(b" \t")


def _tokens(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """The list elements of all headers with that name, in lower case."""
    return [
        token.strip(b" \t")
        for found, value in headers
        if found == name
        for token in value.lower().split(b",")
    ]


def _body_length(
    headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes], minor: int
) -> tuple[int | None, bool]:
    """Content-Length, and whether the body is chunked. Refuses what could be read in two ways, because a
    proxy in front may read it in the other way."""
    if b"transfer-encoding" in fields:
        codings = _tokens(headers, b"transfer-encoding")
        if codings != [b"chunked"]:
            raise BadRequest(501, "TRANSFER_ENCODING", "The only Transfer-Encoding that is read is chunked.")
        if b"content-length" in fields or not minor:
            raise BadRequest(400, "BAD_REQUEST", "A chunked body has no Content-Length, and HTTP/1.1.")
        return None, True
    if b"content-length" not in fields:
        return None, False
    lengths = set(_tokens(headers, b"content-length"))
    length = lengths.pop()
    if lengths or not _NUMBER.fullmatch(length) or len(length) > MAX_LENGTH_DIGITS:
        raise BadRequest(400, "BAD_REQUEST", "Content-Length is not one number.")
    if fields[b"content-length"] != length:  # so that the application need not know that `3, 3` is 3
        fields[b"content-length"] = length
        headers[:] = [(name, length if name == b"content-length" else value) for name, value in headers]
    return int(length), False


def _origin_form(
    method: str,
    target: bytes,
    headers: list[tuple[bytes, bytes]],
    fields: dict[bytes, bytes],
    minor: int,
) -> bytes:
    """The target from its path on. The absolute form, for proxies, also names the host (RFC 9112 3.2.2)."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (minor and not hosts):
        raise BadRequest(400, "BAD_REQUEST", "A request has one Host header.")
    if target.startswith(b"/"):
        return target
    absolute = _ABSOLUTE.match(target)
    if absolute and absolute[1]:
        headers[:] = [(name, value) for name, value in headers if name != b"host"]
        headers.append((b"host", absolute[1]))
        fields[b"host"] = absolute[1]
        rest = target[absolute.end() :]
        return rest if rest.startswith(b"/") else b"/" + rest
    if target == b"*" and method == "OPTIONS":
        return target
    raise BadRequest(400, "BAD_REQUEST", "The request's target does not begin with a slash.")


class _Part(Enum):
    """What comes next in a chunked body."""

    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()


class BodyReader:
    """Cuts a request's body out of what the connection receives."""

    __slots__ = ("_chunked", "_left", "_part", "_trailers", "complete")

    def __init__(self, request: Request) -> None:
        self._chunked = request.chunked
        self._left = request.length or 0  # of the body or of a chunk
        self._part = _Part.SIZE
        self._trailers = 0  # bytes
        self.complete = not request.has_body

    @property
    def left(self) -> int | None:
        """How many bytes are still to come; None if only the sender knows."""
        return None if self._chunked and not self.complete else self._left

    def feed(self, buffer: bytearray) -> bytes:
        """Removes the body's bytes from the front of `buffer` and returns them. Raises BadRequest."""
        if self._chunked:
            return self._read_chunks(buffer)
        taken = bytes(buffer[: self._left])
        del buffer[: self._left]
        self._left -= len(taken)
        self.complete = not self._left
        return taken

    def _read_chunks(self, buffer: bytearray) -> bytes:
        found: list[bytes] = []
        start = 0  # all before it has been read
        while not self.complete:
            if self._part is _Part.DATA:
                data = bytes(buffer[start : start + self._left])
                if not data:
                    break
                found.append(data)
                start += len(data)
                self._left -= len(data)
                if not self._left:
                    self._part = _Part.DATA_END
                continue
            end = buffer.find(b"\n", start)
            limit = MAX_HEAD if self._part is _Part.TRAILERS else MAX_CHUNK_LINE
            if (end if end >= 0 else len(buffer)) - start > limit:
                raise BadRequest(400, "BAD_REQUEST", "A line of the chunked body is too long.")
            if end < 0:
                break
            self._read_chunk_line(bytes(buffer[start:end]))
            start = end + 1
        del buffer[:start]
        return b"".join(found)

    def _read_chunk_line(self, line: bytes) -> None:
        if not line.endswith(b"\r"):  # leniency inside of bodies allows request smuggling
            raise BadRequest(400, "BAD_REQUEST", "A line of the chunked body does not end with CR LF.")
        line = line[:-1]
        if self._part is _Part.SIZE:
            size = _CHUNK_LINE.fullmatch(line.rstrip(b" \t"))
            if size is None:
                raise BadRequest(400, "BAD_REQUEST", "A chunk does not begin with its size.")
            self._left = int(size[1], 16)
            self._part = _Part.DATA if self._left else _Part.TRAILERS
        elif self._part is _Part.DATA_END:
            if line:
                raise BadRequest(400, "BAD_REQUEST", "A chunk is longer than it says.")
            self._part = _Part.SIZE
        elif line:
            _header(line)  # only checked: nobody needs trailers
            self._trailers += len(line)
            if self._trailers > MAX_HEAD:
                raise BadRequest(431, "HEAD_TOO_LARGE", f"Trailers have at most {MAX_HEAD} bytes.")
        else:
            self.complete = True
