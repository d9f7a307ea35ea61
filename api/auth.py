"""Who calls: the API token in `X-APITOKEN`, or else in `Authorization: Bearer TOKEN`."""

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from thingscale.accounts.models import Token, User

HEADER = "X-APITOKEN"


class TokenAuthentication(BaseAuthentication):
    """Device tokens are refused: they travel with every device, and would read and change everything."""

    def authenticate(self, request: Request) -> tuple[User, Token]:
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        sent = request.headers.get(HEADER, "") or (bearer.strip() if scheme.lower() == "bearer" else "")
        token = Token.objects.find(Token.Kind.API, sent)
        if token is None:
            raise AuthenticationFailed
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return HEADER  # its presence makes DRF answer 401 instead of 403
