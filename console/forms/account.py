"""Forms to sign in, to sign up and to choose a new password."""

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from console import client_info, known_browser
from thingscale.accounts.actions import change_password, check_new_password, take_code
from thingscale.accounts.models import Actor, User, validate_email_domain
from thingscale.accounts.passwords import normalised
from thingscale.accounts.time_zones import time_zones
from thingscale.lib.errors import ContractError

PASSWORD_RULE = gettext_lazy("At least 8 characters; none that everybody uses, and not your e-mail or name.")


PASSWORD, CODE = gettext_lazy("Password"), gettext_lazy("Code")


def email_field(**attrs: Any) -> forms.EmailField:
    return forms.EmailField(
        label=gettext_lazy("E-mail"), max_length=254, widget=forms.EmailInput(attrs=attrs)
    )


def new_password_field(label: Any = PASSWORD) -> forms.CharField:
    """Is typed only once, since a button shows it."""
    widget = forms.PasswordInput(attrs={"autocomplete": "new-password", "data-show": True})
    return PasswordField(
        label=label,
        strip=False,
        max_length=1000,
        widget=widget,
        help_text=PASSWORD_RULE,
        validators=[validate_password],
    )


class PasswordField(forms.CharField):
    """A new password, in one form whatever keyboard it was typed on."""

    def to_python(self, value: Any) -> str:
        return normalised(super().to_python(value) or "")


def unlike(user: User, password: str) -> str:
    """The password, unless it is like the e-mail or a name of its account. Raises ValidationError."""
    try:
        check_new_password(user, password)
    except ValidationError as error:
        raise ValidationError(error.messages) from None
    return password


def zone_field(initial: str | None = None) -> forms.ChoiceField:
    return forms.ChoiceField(
        label=gettext_lazy("Time zone"),
        initial=initial,
        choices=lambda: [(name, name.replace("_", " ")) for name in time_zones()],
        help_text=gettext_lazy("Times are shown and asked for in it, here and over REST."),
    )


def code_field(label: Any = CODE) -> forms.CharField:
    attrs = {"autocomplete": "one-time-code", "autocapitalize": "off", "spellcheck": "false", "class": "mono"}
    return forms.CharField(label=label, max_length=40, widget=forms.TextInput(attrs=attrs))


def add_errors(form: forms.Form, error: ValidationError, otherwise: str) -> None:
    """Puts the errors of an action beside their fields, or beside the field `otherwise`."""
    found = error.message_dict if hasattr(error, "error_dict") else {otherwise: error.messages}
    for name, texts in found.items():
        if name in form.fields:
            form.add_error(name, texts)
    if not form.errors:
        form.add_error(otherwise, error.messages)


def takes_code(form: forms.Form, actor: Actor, request: HttpRequest) -> bool:
    """Uses up the code that was typed. If it is wrong, the form says so."""
    known = known_browser.is_known(request, actor.email)
    try:
        take_code(actor, form.cleaned_data["code"], client_info.network(request), known)
    except ContractError as refused:
        form.add_error("code", ValidationError(refused.detail, code=refused.code))
        return False
    return True


def status_of(form: forms.Form) -> int:
    return 429 if form.has_error("code", "WAIT") else 200


class SignInForm(AuthenticationForm):
    username = forms.EmailField(
        label=gettext_lazy("E-mail"),
        widget=forms.EmailInput(attrs={"autofocus": True, "autocomplete": "username"}),
    )
    error_messages = {
        **AuthenticationForm.error_messages,
        "invalid_login": gettext_lazy(
            "No account has this e-mail and password. Check both; passwords are case-sensitive."
        ),
    }


class SignUpForm(forms.Form):
    email = email_field(autofocus=True, autocomplete="username")
    password = new_password_field()
    locale = zone_field()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.is_bound:
            self.fields["locale"].widget.attrs["data-browser-zone"] = True


class FirstEmailForm(forms.Form):
    """The first step of a sign-up that goes on by mail."""

    email = forms.EmailField(
        label=gettext_lazy("E-mail"),
        max_length=254,
        validators=[validate_email_domain],
        widget=forms.EmailInput(attrs={"autofocus": True, "autocomplete": "username"}),
        help_text=gettext_lazy("We mail you a link to go on with."),
    )


class FirstPasswordForm(SignUpForm):
    email: Any = None


class CodeForm(forms.Form):
    code = code_field()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].widget.attrs["autofocus"] = True


class ResetForm(forms.Form):
    email = email_field(autofocus=True, autocomplete="username")


class NewPasswordForm(forms.Form):
    """The form of Django's reset view."""

    password = new_password_field(gettext_lazy("New password"))

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._user = user

    def clean_password(self) -> str:
        return unlike(self._user, self.cleaned_data["password"])

    def save(self) -> User:
        change_password(self._user, self.cleaned_data["password"])
        return self._user
