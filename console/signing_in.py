"""From a right password to a session, with a code in between where the account asks for one."""

import time
from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare, salted_hmac

from console import origin
from console.throttle import Limit, from_here
from thingscale.accounts.models import User

PENDING = "waits for a code"
PENDING_SECONDS = 300
KNOWN = "known"
KNOWN_SECONDS = 180 * 24 * 3600


def key(email: str) -> str:
    """The same for all spellings that find an account, which is by UPPER(email): ſ and ı are S and I."""
    return email.strip().upper().lower()[:254]


def limits(request: HttpRequest, email: str) -> list[Limit]:
    """A browser that has signed in to the account before does not mind how many others try."""
    email = key(email)
    found = [
        from_here(request, "sign-in", tries=30),
        Limit("sign-in to an account from one place", f"{email} {origin.network(request)}"),
    ]
    if not _is_known(request, email):
        found.append(Limit("sign-in to an account", email, tries=50))
    return found


def sign_in(request: HttpRequest, user: User) -> None:
    request.session.pop(PENDING, None)
    login(request, user)
    request.session["ip_address"] = origin.address(request)
    request.session["user_agent"] = origin.user_agent(request)
    request.session["signed_in_at"] = int(time.time())


def remember(response: HttpResponse, user: User) -> HttpResponse:
    """The browser, which needs nothing but this to be a known one: see `limits`."""
    response.set_cookie(
        KNOWN,
        _mark(user.email),
        max_age=KNOWN_SECONDS,
        path="/signin/",
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )
    return response


def ask_for_code(request: HttpRequest, user: User, then: str) -> None:
    request.session.cycle_key()
    request.session[PENDING] = {
        "user": user.pk,
        "until": time.time() + PENDING_SECONDS,
        "password": user.get_session_auth_hash(),
        "then": then,
    }


def pending(request: HttpRequest) -> tuple[User, str] | None:
    """Whose password was right a moment ago, and where they go then."""
    waits: dict[str, Any] = request.session.get(PENDING) or {}
    if waits.get("until", 0) < time.time():
        return None
    user = User.objects.filter(pk=waits["user"], is_active=True).first()
    if user is None or not constant_time_compare(waits["password"], user.get_session_auth_hash()):
        return None
    return user, waits["then"]


def _is_known(request: HttpRequest, email: str) -> bool:
    return constant_time_compare(request.COOKIES.get(KNOWN, ""), _mark(email))


def _mark(email: str) -> str:
    return salted_hmac("thingscale.known-browser", key(email), algorithm="sha256").hexdigest()
