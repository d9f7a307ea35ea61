"""What caches may do with answers of the API: ask each time whether they still hold, and share nothing."""

import hashlib
from collections.abc import Callable
from typing import cast

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.http import parse_etags

KEPT = {"Cache-Control", "ETag", "Vary", "RateLimit", "RateLimit-Policy", "Content-Location", "Expires"}


class CacheHeaders:
    """Middleware. An answer that is made before it is sent has an ETag; who has it already gets 304."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._next(request)
        if not request.path.startswith(("/v1/", "/v2/")):
            return response
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
        same = HttpResponseNotModified()
        for name, text in response.items():
            if name in KEPT:
                same[name] = text
        return same
