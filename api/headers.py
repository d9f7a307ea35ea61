"""Headers of the API's answers: what is left of the rate, and what caches may do."""

import hashlib
from collections.abc import Callable
from typing import cast

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.http import parse_etags

from thingscale.lib.rates import Rate

KEPT_BY_304 = {
    "Cache-Control",
    "ETag",
    "Vary",
    "RateLimit",
    "RateLimit-Policy",
    "Content-Location",
    "Expires",
}


class ApiHeaders:
    """Middleware.

    Every answer to a token says how many requests are left, so that a client sees a 429 coming. Caches may
    share nothing, and have to ask each time. An answer that is not streamed has an ETag, for which they get
    304.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._next(request)
        if not request.path.startswith(("/v1/", "/v2/")):
            return response
        rate: Rate | None = getattr(request, "rate", None)  # set by AccountThrottle
        for name, text in (rate.headers if rate else {}).items():
            response[name] = text
        response.headers.setdefault("Cache-Control", "private, no-cache")
        patch_vary_headers(response, ["X-APITOKEN", "Authorization"])
        read = request.method in {"GET", "HEAD"} and response.status_code == 200
        if not read or response.streaming or "no-store" in response["Cache-Control"]:
            return response
        content = cast(HttpResponse, response).content
        etag = f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'
        known = parse_etags(request.headers.get("If-None-Match", ""))
        response["ETag"] = etag
        if "*" not in known and all(each.removeprefix("W/") != etag for each in known):
            return response
        unchanged = HttpResponseNotModified()
        for name, text in response.items():
            if name in KEPT_BY_304:
                unchanged[name] = text
        return unchanged
