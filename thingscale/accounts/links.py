"""Signed texts in mailed links. Who opens one has proved to read that e-mail."""

from django.core import signing

from thingscale.accounts.models import Actor

SECONDS = 24 * 3600
_EMAIL, _SIGN_UP = "thingscale.accounts.email", "thingscale.accounts.sign-up"


def email_change(actor: Actor, email: str) -> str:
    return signing.dumps([actor.pk, actor.email, email], salt=_EMAIL)


def read_email_change(text: str, actor: Actor) -> str | None:
    """The new e-mail; None if the link is too old, of another account, or of an earlier e-mail of it."""
    try:
        pk, old, new = signing.loads(text, salt=_EMAIL, max_age=SECONDS)
    except (signing.BadSignature, ValueError):
        return None
    return str(new) if [pk, old] == [actor.pk, actor.email] else None


def sign_up(email: str) -> str:
    return signing.dumps(email, salt=_SIGN_UP)


def read_sign_up(text: str) -> str | None:
    try:
        return str(signing.loads(text, salt=_SIGN_UP, max_age=SECONDS))
    except (signing.BadSignature, ValueError):
        return None
