"""The user id and the tokens of an account, for scripts."""

import json

from thingscale.accounts.models import Account, Token


def credentials(account: Account) -> dict[str, str]:
    """`{user_id, api_token, device_token}` with the current tokens."""
    kinds = {"api_token": Token.Kind.API, "device_token": Token.Kind.DEVICE}
    shown = {name: Token.objects.current(account, kind).plain for name, kind in kinds.items()}
    return {"user_id": account.user_id} | shown


def credentials_seen_by(bearer: Token) -> dict[str, str]:
    """The credentials that a call with this API token may see: the token itself, and no token that is newer
    than the token's successor. Somebody else may have an API token that was rotated, and must not learn the
    next one from it during the overlap. The device token is "" if the one to show has ended."""
    tokens = Token.objects.live().filter(user=bearer.user_id)
    device = tokens.filter(kind=Token.Kind.DEVICE)
    if bearer.expires_at is None:
        device = device.filter(expires_at=None)
    else:
        newer = Token.objects.filter(user=bearer.user_id, kind=bearer.kind, pk__gt=bearer.pk)
        successor = newer.order_by("pk").first() or bearer
        device = device.filter(created_at__lt=successor.created_at)
    seen = device.order_by("pk").last()
    return {
        "user_id": bearer.user.user_id,
        "api_token": bearer.plain,
        "device_token": seen.plain if seen else "",
    }


def render(account: Account, as_json: bool) -> str:
    shown = credentials(account)
    return json.dumps(shown) if as_json else "\n".join(f"{name}: {value}" for name, value in shown.items())
