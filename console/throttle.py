"""How many tries there are at the doors of the console: docs/decisions/0015-doors.md."""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django_ratelimit.core import get_usage

from console import client_info
from console.known_browser import is_known
from console.request import UserRequest
from thingscale.web.circuit_breaker import CircuitBreaker

circuit = CircuitBreaker("Sign-ins are not limited")


class Limit(NamedTuple):
    what: str
    whose: str
    tries: int = 10
    seconds: int = 300


def wait(request: HttpRequest, *limits: Limit) -> int:
    """Counts a try for each; the seconds until the next one is let in, 0 if this one is."""
    return max(circuit.ask(lambda limit=limit: _wait(request, limit)) or 0 for limit in limits)  # type: ignore[misc]


def _wait(request: HttpRequest, limit: Limit) -> int:
    usage = get_usage(
        request,
        group=f"door {limit.what} ",
        key=lambda group, request: limit.whose,
        rate=(limit.tries, limit.seconds),
        increment=True,
    )
    return max(1, usage["time_left"]) if usage["should_limit"] else 0


def refuse(request: HttpRequest, seconds: int) -> HttpResponse:
    minutes = -(-seconds // 60)
    response = render(request, "console/account/too_many.html", {"minutes": minutes}, status=429)
    response["Retry-After"] = str(seconds)
    return response


def passwords(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """For a page that asks who is signed in for the password once more."""

    @wraps(view)
    def limited(request: UserRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        seconds = wait(request, *_password_limits(request)) if request.method == "POST" else 0
        return refuse(request, seconds) if seconds else view(request, *args, **kwargs)

    return limited


def _password_limits(request: UserRequest) -> list[Limit]:
    """Who has found a session open and guesses must not keep the owner from changing the password."""
    user = str(request.user.pk)
    if is_known(request, request.user.email):
        return [Limit("password in a known browser", user)]
    return [
        Limit("password from one place", f"{user} {client_info.network(request)}"),
        Limit("password", user, tries=50),
    ]


def from_here(request: HttpRequest, what: str, tries: int = 10, seconds: int = 300) -> Limit:
    return Limit(what, client_info.network(request), tries, seconds)
