"""Forms of accounts, for the operator."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth.forms import AdminPasswordChangeForm

from console.forms.account import new_password_field, zone_field
from thingscale.accounts import actions
from thingscale.accounts.models import User

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
        fields = ["email", "locale", "is_staff"]

    def save(self, commit: bool = True) -> User:
        data = self.cleaned_data
        self.instance = actions.create_account(
            data["email"], data["password"], data["locale"], data["is_staff"]
        )
        self.save_m2m: Any = lambda: None  # the admin calls it
        return self.instance


class AccountForm(_UserForm):
    locale = zone_field()


class PasswordForm(_PasswordForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields.pop("usable_password", None)
        for name in ("password1", "password2"):
            self.fields[name].required = True

    def save(self, commit: bool = True) -> User:
        actions.change_password(self.user, self.cleaned_data["password1"])
        return self.user
