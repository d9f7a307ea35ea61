"""Mails to people."""

from django.contrib.auth.tokens import default_token_generator
from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from thingscale.accounts.models import User


def send_reset(email: str, base: str) -> None:
    """A link to choose a new password, to the account with this e-mail, if there is one. Raises OSError
    (SMTPException is one). `base` is how the link begins: https://iot.example.com"""
    for user in User.objects.filter(email__iexact=email, is_active=True):
        key = [urlsafe_base64_encode(force_bytes(user.pk)), default_token_generator.make_token(user)]
        context = {"user": user, "link": base + reverse("reset-confirm", args=key)}
        send_mail("Your ThingScale password", render_to_string("mail/reset.txt", context), None, [user.email])


def send_test(email: str) -> None:
    """Raises OSError."""
    send_mail("A test from ThingScale", "Mails reach you.\n", None, [email])
