"""The request of a page that asks for a signed-in person (which is every page not marked otherwise)."""

from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme

from thingscale.accounts.models import User


class UserRequest(HttpRequest):
    user: User


def own_path(request: HttpRequest, place: str) -> str:
    """Where a form wants to lead, if that is a page of this console; else ""."""
    ours = url_has_allowed_host_and_scheme(place, {request.get_host()}, request.is_secure())
    return place if ours and place.startswith("/") else ""


def is_api(request: HttpRequest) -> bool:
    return request.path.startswith(("/v1/", "/v2/"))
