"""The request of a page that asks for a signed-in person (which is every page not marked otherwise)."""

from django.http import HttpRequest

from thingscale.accounts.models import User


class UserRequest(HttpRequest):
    user: User
