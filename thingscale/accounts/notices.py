"""Tells people by mail what happened to their account: whoever did it may have been somebody else."""

import logging
from enum import StrEnum

from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError

from thingscale.accounts.models import Actor

log = logging.getLogger(__name__)


class Notice(StrEnum):
    """What happened, as the mail says it."""

    EMAIL_ASKED = "somebody asked to sign in with another e-mail from now on, and has to confirm that there"
    EMAIL_CHANGED = "the e-mail to sign in with was changed: this one is no longer good for it"
    PASSWORD_CHANGED = "the password was changed, and other browsers were signed out"  # noqa: S105
    TWO_FACTOR_ON = "two-factor sign-in was set up with an app"
    TWO_FACTOR_OFF = "two-factor sign-in was turned off: the password alone lets in"
    RECOVERY_CODES = "new recovery codes were made, and the older ones ended"
    API_TOKEN_ROTATED = "the API token was rotated"  # noqa: S105
    DEVICE_TOKEN_ROTATED = "the device token was rotated"  # noqa: S105
    CLOSED = "it was closed, and its data are being deleted"


def tell(actor: Actor, notice: Notice, email: str = "") -> None:
    """Mails the notice after the commit, if a mail server is set. While the queue is away the mail is lost,
    and nothing else."""
    to, user_id = email or actor.email, str(actor)
    if settings.EMAIL_HOST:
        transaction.on_commit(lambda: _ask(to, user_id, notice))


def _ask(email: str, user_id: str, notice: Notice) -> None:
    from thingscale.accounts.tasks import send_notice  # which imports the actions that import this

    try:
        send_notice.apply_async((email, user_id, notice.name), retry=False)
    except (OperationalError, OSError) as error:
        log.warning("%s is not told of %s: %s", user_id, notice.name, type(error).__name__)
