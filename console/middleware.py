"""What every page of the console is served with."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

Next = Callable[[HttpRequest], HttpResponse]

POLICY = "; ".join(
    [
        "default-src 'self'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)


class ContentSecurityPolicy:
    """Scripts and styles from our own files only, never from within a page. A view may state its own."""

    def __init__(self, get_response: Next) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._next(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response


class UserTimeZone:
    """Templates and forms show and read times in the zone of the person who is signed in."""

    def __init__(self, get_response: Next) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # A session cookie, and not the user, decides here: who sends none costs no query.
        if "sessionid" in request.COOKIES and request.user.is_authenticated:
            with timezone.override(request.user.zone):
                return self._next(request)
        return self._next(request)
