"""A cookie marks a browser that was signed in to an account before. Wrong tries of others do not lock it out.

The cookie opens nothing: its owner is still asked for the password and the code.
"""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare, salted_hmac

from thingscale.accounts.models import Actor

COOKIE = "known"
SECONDS = 180 * 24 * 3600


def key(email: str) -> str:
    """One text for all spellings of an e-mail that find the same account. It is found by UPPER(email), for
    which ſ and ı are S and I."""
    return email.strip().upper().lower()[:254]


def remember(response: HttpResponse, actor: Actor) -> HttpResponse:
    response.set_cookie(
        COOKIE,
        _mark(actor.email, settings.SECRET_KEY),
        max_age=SECONDS,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )
    return response


def is_known(request: HttpRequest, email: str) -> bool:
    shown = request.COOKIES.get(COOKIE, "")
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return any(constant_time_compare(shown, _mark(email, secret)) for secret in keys)


def _mark(email: str, secret: str) -> str:
    return salted_hmac("thingscale.known-browser", key(email), secret, algorithm="sha256").hexdigest()
