"""Forms of an account."""

from django.contrib.auth.forms import AuthenticationForm
from django.forms import EmailField, EmailInput


class SignInForm(AuthenticationForm):
    username = EmailField(
        label="E-mail", widget=EmailInput(attrs={"autofocus": True, "autocomplete": "username"})
    )
    error_messages = {
        **AuthenticationForm.error_messages,
        "invalid_login": "No account has this e-mail and password. Check both; passwords are case-sensitive.",
    }
