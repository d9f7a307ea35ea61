"""Mails to people."""

from contextlib import AbstractContextManager
from typing import Any

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.utils.translation import gettext as _

from thingscale.accounts import links
from thingscale.accounts.models import User
from thingscale.accounts.notices import Notice


def in_language_of(user: User | None) -> AbstractContextManager[None]:
    """English for who has chosen none: only a browser says which one it wants."""
    return translation.override((user and user.language) or settings.LANGUAGE_CODE)


def send_reset(email: str, base: str) -> None:
    """Sends a link to choose a new password, if an account has this e-mail. `base` is the begin of the link:
    https://iot.example.com. Raises OSError, of which SMTPException is one."""
    for user in User.objects.filter(email__iexact=email, is_active=True):
        key = [urlsafe_base64_encode(force_bytes(user.pk)), default_token_generator.make_token(user)]
        context = {"user": user, "link": base + reverse("reset-confirm", args=key)}
        with in_language_of(user):
            text = render_to_string("mail/reset.txt", context)
            send_mail(_("Your ThingScale password"), text, None, [user.email])


def send_notice(email: str, user_id: str, notice: Notice) -> None:
    """Raises OSError."""
    with in_language_of(User.objects.filter(pk=int(user_id.removeprefix("U"))).first()):
        context = {"user_id": user_id, "what": _(notice.value), "url": settings.PUBLIC_URL}
        text = render_to_string("mail/notice.txt", context)
        send_mail(_("Your ThingScale account %(user_id)s") % {"user_id": user_id}, text, None, [email])


def send_limit_warning(user: User, name: Any, percent: int, sentence: str) -> None:
    """In the language that is in force. Raises OSError."""
    link = f"{settings.PUBLIC_URL}{reverse('profile')}#limits" if settings.PUBLIC_URL else ""
    text = render_to_string("mail/limit.txt", {"user": user, "sentence": sentence, "link": link})
    values = {"user_id": user.user_id, "name": name, "percent": percent}
    if percent >= 100:
        subject = _("Your ThingScale account %(user_id)s: %(name)s, full") % values
    else:
        subject = _("Your ThingScale account %(user_id)s: %(name)s, %(percent)s %% used") % values
    send_mail(subject, text, None, [user.email])


def send_email_link(user_pk: int, email: str, base: str) -> None:
    """Sends a link to the new e-mail: who opens it has proved to read it. Raises OSError."""
    for user in User.objects.filter(pk=user_pk, is_active=True):
        link = base + reverse("profile-email-confirm", args=[links.email_change(user, email)])
        with in_language_of(user):
            text = render_to_string("mail/email.txt", {"user": user, "email": email, "link": link})
            send_mail(_("Your new e-mail at ThingScale"), text, None, [email])


def send_sign_up_link(email: str, base: str) -> None:
    """Sends a link to sign up, or says that there is an account already. Raises OSError."""
    known = User.objects.filter(email__iexact=email).exists()
    path = reverse("reset") if known else reverse("signup-confirm", args=[links.sign_up(email)])
    text = render_to_string("mail/signup.txt", {"email": email, "known": known, "link": base + path})
    send_mail("Your ThingScale account", text, None, [email])


def send_test(email: str) -> None:
    """Raises OSError."""
    send_mail("A test from ThingScale", "Mails reach you.\n", None, [email])
