"""From a right password to a session, with a code in between if the second factor is on."""

import time
from typing import Any

from django.contrib.auth import login
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from console import client_info
from console.known_browser import is_known, key
from console.sign_in_limits import Limit, of_network
from thingscale.accounts.models import Actor, User

PENDING = "waits for a code"
PENDING_SECONDS = 300


def limits(request: HttpRequest, email: str) -> list[Limit]:
    """A browser that was signed in before has a limit of its own, so that nobody else can use it up."""
    email = key(email)
    if is_known(request, email):
        return [Limit("sign-in in a known browser", email, tries=30)]
    return [
        of_network(request, "sign-in", tries=30),
        Limit("sign-in to an account from one place", f"{email} {client_info.network(request)}"),
        Limit("sign-in to an account", email, tries=50),
    ]


def sign_in(request: HttpRequest, user: User) -> None:
    request.session.pop(PENDING, None)
    login(request, user)
    request.session["ip_address"] = client_info.address(request)
    request.session["user_agent"] = client_info.user_agent(request)
    request.session["signed_in_at"] = int(time.time())


def ask_for_code(request: HttpRequest, actor: Actor, then: str) -> None:
    request.session.cycle_key()
    request.session[PENDING] = {
        "user": actor.pk,
        "until": time.time() + PENDING_SECONDS,
        "password": actor.get_session_auth_hash(),
        "then": then,
    }


def pending(request: HttpRequest) -> tuple[User, str] | None:
    """Who typed the right password a moment ago, and the page that they go to after the code."""
    waits: dict[str, Any] = request.session.get(PENDING) or {}
    if waits.get("until", 0) < time.time():
        return None
    user = User.objects.filter(pk=waits["user"], is_active=True).first()
    if user is None:
        return None
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    if not any(constant_time_compare(waits["password"], known) for known in hashes):
        return None
    return user, waits["then"]
