"""Who calls: the API token in `X-APITOKEN`, or else in `Authorization: Bearer TOKEN`."""

from typing import cast

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from thingscale.accounts.models import Account, Actor, Token, User

HEADER = "X-APITOKEN"


class ApiRequest(Request):
    """A request that came with an API token. What it reads and changes is the account's; who does it, and in
    whose time zone, is the actor."""

    account: Account
    actor: Actor
    auth: Token


class TokenAuthentication(BaseAuthentication):
    """Sets `request.account` and `request.actor`: nothing else in the API reads `request.user`.

    Device tokens are refused: they travel with every device, and would read and change everything.
    """

    def authenticate(self, request: Request) -> tuple[User, Token]:
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        sent = request.headers.get(HEADER, "") or (bearer.strip() if scheme.lower() == "bearer" else "")
        token = Token.objects.find(Token.Kind.API, sent)
        if token is None:
            raise AuthenticationFailed
        with_token = cast(ApiRequest, request)
        with_token.account = with_token.actor = token.user
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return HEADER  # its presence makes DRF answer 401 instead of 403
