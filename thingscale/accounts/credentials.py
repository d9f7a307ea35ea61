"""What a script needs of an account."""

import json

from thingscale.accounts.models import Token, User


def credentials(user: User) -> dict[str, str]:
    """`{user_id, api_token, device_token}` with the current tokens."""
    kinds = {"api_token": Token.Kind.API, "device_token": Token.Kind.DEVICE}
    shown = {name: Token.objects.current(user, kind).plain for name, kind in kinds.items()}
    return {"user_id": user.user_id} | shown


def render(user: User, as_json: bool) -> str:
    shown = credentials(user)
    return json.dumps(shown) if as_json else "\n".join(f"{name}: {value}" for name, value in shown.items())
