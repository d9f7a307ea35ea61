"""Forms of accounts, for the operator."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth.forms import AdminPasswordChangeForm

from console.forms.account import new_password_field, unlike, zone_field
from thingscale.accounts import actions
from thingscale.accounts.models import User
from thingscale.accounts.passwords import normalised
from thingscale.provisioning.accounts import open_account

if TYPE_CHECKING:
    _UserForm = forms.ModelForm[User]
    _PasswordForm = AdminPasswordChangeForm[User]
else:
    _UserForm = forms.ModelForm
    _PasswordForm = AdminPasswordChangeForm


class NewAccountForm(_UserForm):
    password = new_password_field()
    locale = zone_field(initial="UTC")

    class Meta:
        model = User
        fields = ["email", "locale", "kind", "is_staff"]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "email" in cleaned and "password" in cleaned:
            try:
                unlike(User(email=cleaned["email"]), cleaned["password"])
            except forms.ValidationError as error:
                self.add_error("password", error)
        return cleaned

    def save(self, commit: bool = True) -> User:
        data = self.cleaned_data
        self.instance = open_account(
            data["email"], data["password"], data["locale"], data["is_staff"], data["kind"]
        )
        self.save_m2m: Any = lambda: None  # the admin calls it
        return self.instance


class AccountForm(_UserForm):
    locale = zone_field()


class OperatorPasswordForm(_PasswordForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields.pop("usable_password", None)
        for name in ("password1", "password2"):
            self.fields[name].required = True

    def clean_password1(self) -> str:
        return unlike(self.user, normalised(self.cleaned_data["password1"]))

    def clean_password2(self) -> str:
        return normalised(self.cleaned_data["password2"])

    def save(self, commit: bool = True) -> User:
        actions.change_password(self.user, self.cleaned_data["password1"])
        return self.user
