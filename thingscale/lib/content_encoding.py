"""Expands compressed bodies of requests (Content-Encoding, RFC 9110 8.4), up to a limit. The encodings of
answers are in thingscale/web/accept_encoding.py."""

import zlib

READABLE = "gzip, deflate"  # for the Accept-Encoding of a refusal
_GZIP = zlib.MAX_WBITS | 16
_WBITS = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": zlib.MAX_WBITS}


class BadEncoding(Exception):
    """The body is not what its Content-Encoding says, or only a part of it."""


def readable(encoding: bytes) -> bool:
    """One encoding only: nobody needs two, and two could expand a small body without bounds."""
    return is_identity(encoding) or _name(encoding) in _WBITS


def is_identity(encoding: bytes) -> bool:
    return _name(encoding) in {b"", b"identity"}


def decode(encoding: bytes, body: bytes, limit: int) -> bytes:
    """Returns at most one byte more than `limit`, which means that the body is too large. Raises
    BadEncoding."""
    if is_identity(encoding):
        return body[: limit + 1]
    decoder = Decoder(encoding, limit)
    expanded = decoder.feed(body)
    if len(expanded) <= limit:
        decoder.end()
    return expanded


def _name(encoding: bytes) -> bytes:
    return encoding.strip(b" \t").lower()


class Decoder:
    """Expands a body that comes in parts."""

    def __init__(self, encoding: bytes, limit: int) -> None:
        """`encoding`: a readable one."""
        self._name = _name(encoding)
        self._left = limit + 1  # bytes that may still come out
        self._started = False
        self._stream = zlib.decompressobj(_WBITS[self._name])

    def feed(self, part: bytes) -> bytes:
        """Returns what the part expands to, up to the limit. Raises BadEncoding."""
        expanded = []
        while part and self._left > 0:
            if self._stream.eof:  # gzip files may follow each other
                if self._name == b"deflate":
                    raise BadEncoding("There is more behind the end of the compressed body.")
                self._stream = zlib.decompressobj(_GZIP)
            out = self._expand(part)
            expanded.append(out)
            self._left -= len(out)
            part = self._stream.unused_data or self._stream.unconsumed_tail
        return b"".join(expanded)

    def end(self) -> None:
        """Raises BadEncoding if the last part is missing."""
        if self._left > 0 and self._started and not self._stream.eof:
            raise BadEncoding("The compressed body ends too early.")

    def _expand(self, part: bytes) -> bytes:
        first, self._started = not self._started, True
        try:
            return self._stream.decompress(part, self._left)
        except zlib.error:
            if not first or self._name != b"deflate":
                raise BadEncoding("The body is not compressed as its Content-Encoding says.") from None
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)  # without zlib's head, as some clients send it
        try:
            return self._stream.decompress(part, self._left)
        except zlib.error:
            raise BadEncoding("The body is not compressed as its Content-Encoding says.") from None
