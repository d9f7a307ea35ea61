"""Requests of the console's pages."""

from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme

from thingscale.accounts.models import Account, Actor


class ConsoleRequest(HttpRequest):
    """A request of someone who is signed in, as each page needs it that is not marked otherwise.

    middleware.SignedIn sets both. What a page shows and changes is the account's; who does it is the actor.
    """

    account: Account
    actor: Actor


def is_signed_in(request: HttpRequest) -> bool:
    return hasattr(request, "actor")


def own_path(request: HttpRequest, place: str) -> str:
    """Where a form wants to lead, if that is a page of this console; else ""."""
    ours = url_has_allowed_host_and_scheme(place, {request.get_host()}, request.is_secure())
    return place if ours and place.startswith("/") else ""


def is_api(request: HttpRequest) -> bool:
    return request.path.startswith(("/v1/", "/v2/"))
