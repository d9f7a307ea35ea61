"""A request to a Django view as the connectors' rules want it: where a site has a WSGI server only."""

from django.http import HttpRequest, UnreadablePostError

Headers = dict[bytes, bytes]  # by lower-case name


def headers_of(request: HttpRequest) -> Headers:
    """Without a Content-Length that is no number: some servers pass on an empty one where there is none."""
    found = {
        name.lower().encode("latin-1"): value.strip(" \t").encode("latin-1")
        for name, value in request.headers.items()
    }
    if not found.get(b"content-length", b"0").isdigit():
        del found[b"content-length"]
    return found


def read_body(request: HttpRequest, headers: Headers, most: int) -> bytes | None:
    """The whole body, cut one byte past `most`, so that the caller sees that it is larger. None if the client
    has gone: WSGI servers end the body early then, and half a number is a number, too."""
    try:
        body: bytes = request.read(most + 1)
    except UnreadablePostError:
        return None
    stated = int(headers.get(b"content-length", b"0"))
    return None if len(body) < min(stated, most + 1) else body
