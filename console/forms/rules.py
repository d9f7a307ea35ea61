"""The form of an activation rule."""

from typing import Any

from django import forms
from django.urls import reverse_lazy

from console.forms.devices import ChannelField
from thingscale.accounts.models import Account

AS_TYPED = {"autocapitalize": "off", "spellcheck": "false", "autocomplete": "off"}
PREVIEW = {
    "hx-get": reverse_lazy("rules-preview"),
    "hx-trigger": "input changed delay:300ms",
    "hx-target": "#preview",
}


class RuleForm(forms.Form):
    pattern = forms.CharField(
        label="Device id",
        max_length=64,
        strip=True,
        help_text="<code>*</code> stands for anything, <code>?</code> for one character: <code>roof-*</code>",
    )

    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["channel"] = ChannelField(account, label="Map to channel")
        self.fields["pattern"].widget.attrs.update(AS_TYPED | PREVIEW)
