"""The form of an activation rule."""

from typing import Any

from django import forms
from django.urls import reverse_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.forms.devices import ChannelField
from thingscale.accounts.models import Account

AS_TYPED = {"autocapitalize": "off", "spellcheck": "false", "autocomplete": "off"}
PREVIEW = {
    "hx-get": reverse_lazy("rules-preview"),
    "hx-trigger": "input changed delay:300ms",
    "hx-target": "#preview",
}


class RuleForm(forms.Form):
    OWN, CHANNEL = "own", "channel"

    pattern = forms.CharField(
        label=gettext_lazy("Device id"),
        max_length=64,
        strip=True,
        help_text=gettext_lazy(
            "<code>*</code> stands for anything, <code>?</code> for one character: <code>roof-*</code>"
        ),
    )

    to = forms.ChoiceField(
        label=gettext_lazy("Map each device to"),
        choices=[
            (OWN, gettext_lazy("a channel of its own, made for it and called like it")),
            (CHANNEL, gettext_lazy("one channel for all")),
        ],
        widget=forms.RadioSelect,
        required=False,  # a page of the release before has one channel only
        initial=OWN,
    )

    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["channel"] = ChannelField(account, label=_("Channel"), required=False, label_suffix="")
        self.fields["pattern"].widget.attrs.update(AS_TYPED | PREVIEW)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("to") == self.OWN:
            self.errors.pop("channel", None)
            return cleaned | {"channel": None}
        if not cleaned.get("channel") and not self.errors.keys() & {"channel", "to"}:
            self.add_error("channel", _("Choose a channel, or give each device its own."))
        return cleaned
