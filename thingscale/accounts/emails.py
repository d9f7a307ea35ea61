"""Mails to people."""

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from thingscale.accounts import links
from thingscale.accounts.models import User
from thingscale.accounts.notices import Notice


def send_reset(email: str, base: str) -> None:
    """A link to choose a new password, to the account with this e-mail, if there is one. Raises OSError
    (SMTPException is one). `base` is how the link begins: https://iot.example.com"""
    for user in User.objects.filter(email__iexact=email, is_active=True):
        key = [urlsafe_base64_encode(force_bytes(user.pk)), default_token_generator.make_token(user)]
        context = {"user": user, "link": base + reverse("reset-confirm", args=key)}
        send_mail("Your ThingScale password", render_to_string("mail/reset.txt", context), None, [user.email])


def send_notice(email: str, user_id: str, notice: Notice) -> None:
    """Raises OSError."""
    context = {"user_id": user_id, "what": notice.value, "url": settings.PUBLIC_URL}
    text = render_to_string("mail/notice.txt", context)
    send_mail(f"Your ThingScale account {user_id}", text, None, [email])


def send_limit_warning(user: User, name: str, percent: int, sentence: str) -> None:
    """Raises OSError."""
    link = f"{settings.PUBLIC_URL}{reverse('profile')}#limits" if settings.PUBLIC_URL else ""
    text = render_to_string("mail/limit.txt", {"user": user, "sentence": sentence, "link": link})
    how_full = "full" if percent >= 100 else f"{percent} % used"
    send_mail(f"Your ThingScale account {user.user_id}: {name}, {how_full}", text, None, [user.email])


def send_email_link(user_pk: int, email: str, base: str) -> None:
    """To the new e-mail, which it proves. Raises OSError."""
    for user in User.objects.filter(pk=user_pk, is_active=True):
        link = base + reverse("profile-email-confirm", args=[links.email_change(user, email)])
        text = render_to_string("mail/email.txt", {"user": user, "email": email, "link": link})
        send_mail("Your new e-mail at ThingScale", text, None, [email])


def send_sign_up_link(email: str, base: str) -> None:
    """Or, to whoever has an account, that there is one. Raises OSError."""
    known = User.objects.filter(email__iexact=email).exists()
    path = reverse("reset") if known else reverse("signup-confirm", args=[links.sign_up(email)])
    text = render_to_string("mail/signup.txt", {"email": email, "known": known, "link": base + path})
    send_mail("Your ThingScale account", text, None, [email])


def send_test(email: str) -> None:
    """Raises OSError."""
    send_mail("A test from ThingScale", "Mails reach you.\n", None, [email])
