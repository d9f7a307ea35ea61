"""Keeps what was typed into a form that was sent after its session had ended.

The sign-in page carries it in a hidden, signed field, so that nothing has to be stored for people who are not
signed in. After signing in it is in the session, and a page shows it. Only a click there sends it.
"""

import re
import time
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from django.core import signing
from django.http import HttpRequest
from django.urls import reverse

from console.request import own_path

FIELD = "unsent"  # of the sign-in form, and its place in the session
SALT = "console.unsent"
SIGN_IN_SECONDS = 24 * 3600  # for which the sign-in page may stay open
SEND_SECONDS = 30 * 60  # after signing in
MAX_CHARACTERS = 200_000
SECRET = re.compile("password|current|code|secret|token")  # names of fields that are kept nowhere
# Whose form has nothing typed, and does harm if it is sent in passing: the page asks again.
ASKED_AGAIN = re.compile(".*-(delete|close|rotate|end|disable|bulk)")
NOT_TYPED = {"csrfmiddlewaretoken", "next"}


class Unsent(NamedTuple):
    path: str
    fields: list[list[str]]  # name and value
    page: str  # where it was typed

    @classmethod
    def of(cls, request: HttpRequest) -> Self | None:
        """None if the form can't be kept, or has nothing that was typed."""
        name = request.resolver_match.url_name if request.resolver_match else None
        fields = [
            [field, value]
            for field, values in request.POST.lists()
            if field not in NOT_TYPED
            for value in values
        ]
        if not name or ASKED_AGAIN.fullmatch(name) or request.FILES or not any(value for _, value in fields):
            return None
        if any(SECRET.search(field) for field, _ in fields):
            return None
        if sum(len(field) + len(value) for field, value in fields) > MAX_CHARACTERS:
            return None
        return cls(request.get_full_path(), fields, page_before(request))

    @property
    def signed(self) -> str:
        return signing.dumps(self, salt=SALT, compress=True)


def page_before(request: HttpRequest) -> str:
    """The page that has the form: the address that a form is sent to may show nothing."""
    sent_from = urlsplit(request.headers.get("Referer", ""))
    path = own_path(request, sent_from._replace(scheme="", netloc="", fragment="").geturl())
    return path if path and sent_from.netloc == request.get_host() else request.get_full_path()


def to_sign_in_with(request: HttpRequest) -> str:
    """What the sign-in form has to carry; "" if there is nothing, or nothing that we have signed."""
    carried = request.POST.get(FIELD, "")
    return carried if _read(carried) else ""


def keep(request: HttpRequest) -> str:
    """Puts the form into the session after a right password. Returns the next page, or "" if nothing is
    unsent."""
    if (unsent := _read(request.POST.get(FIELD, ""))) is None:
        return ""
    request.session[FIELD] = [time.time() + SEND_SECONDS, *unsent]
    return reverse("unsent")


def kept(request: HttpRequest) -> Unsent | None:
    until, *parts = request.session.get(FIELD) or [0]
    return Unsent(*parts) if until > time.time() else None


def forget(request: HttpRequest) -> None:
    request.session.pop(FIELD, None)


def _read(carried: str) -> Unsent | None:
    try:
        parts: Any = signing.loads(carried, salt=SALT, max_age=SIGN_IN_SECONDS)
    except signing.BadSignature:
        return None
    return Unsent(*parts)
