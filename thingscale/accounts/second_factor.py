"""Reads of second factors; actions.py writes them."""

from base64 import b32encode

from django_otp.plugins.otp_static.models import StaticToken

from thingscale.accounts.models import Actor, Authenticator


def is_on(actor: Actor) -> bool:
    return bool(Authenticator.objects.filter(user_id=actor.pk, confirmed=True).exists())


def waiting(actor: Actor) -> Authenticator | None:
    """The authenticator that is being set up."""
    found: Authenticator | None = Authenticator.objects.filter(user_id=actor.pk, confirmed=False).first()
    return found


def codes_left(actor: Actor) -> int:
    return int(StaticToken.objects.filter(device__user=actor.pk).count())


def secret(device: Authenticator) -> str:
    """The secret as people type it into an app, in groups of four."""
    text = b32encode(device.bin_key).decode()
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))
