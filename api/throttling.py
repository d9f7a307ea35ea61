"""How many requests a second an account may send: docs/contract.md, docs/decisions/0011-rate-limits.md."""

from typing import TYPE_CHECKING

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from thingscale.accounts.models import Account
from thingscale.lib.rates import Rate
from thingscale.web.circuit_breaker import CircuitBreaker
from thingscale.web.shared_counter import SECOND, count_in_second

if TYPE_CHECKING:
    from rest_framework.views import APIView  # at run time it imports this module

circuit = CircuitBreaker("Requests are not limited")


class AccountThrottle(BaseThrottle):
    def allow_request(self, request: Request, view: "APIView") -> bool:
        """Counts the request against its account. One without a token, for a public page, is not counted."""
        account: Account | None = getattr(request, "account", None)
        if account is None:
            return True
        limit = account.rest_rate
        used = circuit.ask(lambda: count_in_second(request._request, "rest", str(account.pk), limit))
        rate = Rate("rest", limit, limit - (used or 0), SECOND)
        request._request.rate = rate  # type: ignore[attr-defined]  # for ApiHeaders
        return rate.left >= 0

    def wait(self) -> float:
        return SECOND
