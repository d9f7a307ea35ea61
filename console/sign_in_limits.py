"""How often people may try to sign in, to sign up or to type a password: docs/decisions/0015-doors.md."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console import client_info
from console.known_browser import is_known
from console.request import ConsoleRequest
from thingscale.web import shared_counter
from thingscale.web.circuit_breaker import CircuitBreaker

circuit = CircuitBreaker("Sign-ins are not limited")


class Limit(NamedTuple):
    what: str
    whose: str
    tries: int = 10
    seconds: int = 300


def of_network(request: HttpRequest, what: str, tries: int = 10, seconds: int = 300) -> Limit:
    return Limit(what, client_info.network(request), tries, seconds)


def count_try(request: HttpRequest, *limits: Limit) -> int:
    """Counts a try for each limit. Returns 0 if it may go on, or else the seconds until the next one may."""
    waits = []
    for what, whose, tries, seconds in limits:
        count = partial(shared_counter.count_try, request, f"door {what} ", whose, tries, seconds)
        waits.append(circuit.ask(count) or 0)
    return max(waits)


def refuse(request: HttpRequest, seconds: int) -> HttpResponse:
    minutes = -(-seconds // 60)
    response = render(request, "console/account/too_many.html", {"minutes": minutes}, status=429)
    response["Retry-After"] = str(seconds)
    return response


def limit_passwords(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Decorates a page that asks for the password once more. Who finds a session open and guesses must not
    keep the owner from changing the password, so browsers that the owner has used are counted apart."""

    @wraps(view)
    def limited(request: ConsoleRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        seconds = 0
        if request.method == "POST":
            actor = str(request.actor.pk)
            if is_known(request, request.actor.email):
                limits = [Limit("password in a known browser", actor)]
            else:
                limits = [
                    Limit("password from one place", f"{actor} {client_info.network(request)}"),
                    Limit("password", actor, tries=50),
                ]
            seconds = count_try(request, *limits)
        return refuse(request, seconds) if seconds else view(request, *args, **kwargs)

    return limited
