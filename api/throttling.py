"""How many requests a second a user may send: docs/contract.md and docs/decisions/0011-rate-limits.md."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django_ratelimit.core import get_usage
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from thingscale.accounts.models import User
from thingscale.lib.rates import Rate
from thingscale.web.circuit_breaker import CircuitBreaker

if TYPE_CHECKING:
    from rest_framework.views import APIView  # at run time it imports this module

WINDOW = 1  # seconds; see ratelimit_cache.py
NEVER = 86_400  # the period that django-ratelimit is told, so that its windows don't end ours


circuit = CircuitBreaker("Requests are not limited")


class UserThrottle(BaseThrottle):
    def allow_request(self, request: Request, view: "APIView") -> bool:
        user = request.user
        if not isinstance(user, User):
            return True
        used = circuit.ask(lambda: _count(request, user))
        rate = Rate("rest", user.rest_rate, user.rest_rate - (used or 0), WINDOW)
        request._request.rate = rate  # type: ignore[attr-defined]  # for the headers
        return rate.left >= 0

    def wait(self) -> float:
        return WINDOW


def _count(request: Request, user: User) -> int:
    """Requests of the user in this window, with this one."""
    usage = get_usage(
        request,
        group="rest",
        key=lambda group, request: str(user.pk),
        rate=(user.rest_rate, NEVER),
        increment=True,
    )
    return int(usage["count"])


class RateLimitHeaders:
    """Middleware: every answer to a user says how much is left, so that a client sees a 429 coming."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        rate: Any = getattr(request, "rate", None)
        for name, text in (rate.headers if rate else {}).items():
            response[name] = text
        return response
