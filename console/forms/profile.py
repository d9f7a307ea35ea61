"""Forms of the profile: of the account, and of who is signed in."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.forms.account import code_field, email_field, new_password_field, unlike, zone_field
from console.forms.channels import ConfirmForm
from thingscale.accounts.limits import WhenFull
from thingscale.accounts.models import Actor, User
from thingscale.accounts.passwords import UnlikeTheAccount

OVERLAPS = {
    "0": gettext_lazy("None: it ends at once"),
    "1": gettext_lazy("1 hour"),
    "24": gettext_lazy("24 hours"),
    "168": gettext_lazy("7 days"),
}


if TYPE_CHECKING:
    _UserForm = forms.ModelForm[User]
else:
    _UserForm = forms.ModelForm


class ProfileForm(_UserForm):
    locale = zone_field()
    language = forms.ChoiceField(
        label=gettext_lazy("Language"),
        required=False,
        choices=[("", gettext_lazy("As the browser asks")), *settings.LANGUAGES],
    )

    class Meta:
        model = User
        fields = ["user_alias", "organization", "email1", "email2", "locale", "language"]
        labels = {
            "user_alias": gettext_lazy("Your name"),
            "organization": gettext_lazy("Organization"),
            "email1": gettext_lazy("E-mail for events"),
            "email2": gettext_lazy("A second one"),
        }
        help_texts = {"email1": gettext_lazy("Events that notify by e-mail write to both.")}


class PasswordMixin(forms.Form):
    """Asks for the password once more, since a browser may have been left alone."""

    current = forms.CharField(
        label=gettext_lazy("Your password"),
        strip=False,
        max_length=1000,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._actor = actor

    def clean_current(self) -> str:
        current: str = self.cleaned_data["current"]
        if not self._actor.check_password(current):
            raise forms.ValidationError(_("This is not your password. Check it; it is case-sensitive."))
        return current


class EmailForm(PasswordMixin):
    email = email_field(autocomplete="username")
    field_order = ("email", "current")

    def clean(self) -> dict[str, Any]:
        """The password must not be the new e-mail either."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "email" in cleaned and "current" in cleaned:
            try:
                UnlikeTheAccount().validate(cleaned["current"], User(email=cleaned["email"]))
            except forms.ValidationError:
                self.add_error("email", _("Your password is too similar to this e-mail: change it first."))
        return cleaned


class PasswordForm(PasswordMixin):
    password = new_password_field(gettext_lazy("New password"))

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, actor=user, **kwargs)
        self._user = user

    def clean_password(self) -> str:
        return unlike(self._user, self.cleaned_data["password"])


class SetUpForm(PasswordMixin):
    code = code_field()
    field_order = ("code", "current")


class PasswordAndCodeForm(PasswordMixin):
    code = code_field(gettext_lazy("Code of the app, or a recovery code"))


class CloseForm(ConfirmForm, PasswordMixin):
    pass


class RotateForm(forms.Form):
    overlap = forms.ChoiceField(
        label=gettext_lazy("How long the old token stays valid"), choices=list(OVERLAPS.items()), initial="24"
    )

    def clean_overlap(self) -> timedelta:
        return timedelta(hours=int(self.cleaned_data["overlap"]))


class WhenFullForm(forms.Form):
    when_full = forms.ChoiceField(
        label=gettext_lazy("When the storage is full"),
        choices=WhenFull,
        widget=forms.RadioSelect,
        initial=WhenFull.REFUSE,
    )
    sure = forms.BooleanField(
        label=gettext_lazy("Yes, delete my oldest datapoints when the storage is full"),
        required=False,
        help_text=gettext_lazy("Needed for the second choice only. What is deleted does not come back."),
    )

    def __init__(self, *args: Any, now: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._now = now

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        begins = cleaned.get("when_full") == WhenFull.DROP_OLDEST != self._now
        if begins and not cleaned.get("sure"):
            self.add_error("sure", _("Datapoints will be deleted: check this if that is what you want."))
        return cleaned
