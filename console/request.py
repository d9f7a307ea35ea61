"""Requests of the console's pages."""

from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme

from thingscale.accounts.models import Account, Actor


class ConsoleRequest(HttpRequest):
    """A request of someone who is signed in, as each page needs it that is not marked otherwise.

    middleware.SignedIn sets them. What a page shows and changes is the account's; who does it is the actor.
    """

    account: Account
    actor: Actor


def is_signed_in(request: HttpRequest) -> bool:
    return hasattr(request, "actor")


def own_path(request: HttpRequest, path: str) -> str:
    """The path that a form wants to lead to, if it is one of this console; else ""."""
    ours = url_has_allowed_host_and_scheme(path, {request.get_host()}, request.is_secure())
    return path if ours and path.startswith("/") else ""


def is_api(request: HttpRequest) -> bool:
    return request.path.startswith(("/v1/", "/v2/"))


def is_fragment(request: HttpRequest) -> bool:
    """Whether htmx asks for what has changed in an open page. One that the browser goes back to is whole."""
    return "HX-Request" in request.headers and "HX-History-Restore-Request" not in request.headers
