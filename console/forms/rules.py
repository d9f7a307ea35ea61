"""The form of an activation rule."""

from typing import Any

from django import forms
from django.urls import reverse_lazy

from thingscale.accounts.models import User
from thingscale.streams.models import Channel

OFFERED = 200  # channels; any other one's number can be typed
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
    channel = forms.IntegerField(
        label="Map to channel", min_value=0, max_value=Channel.MAX_NUMBER, help_text="The channel's number."
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._channels = Channel.objects.for_user(user)
        self.offered = self._channels[:OFFERED]
        self.fields["channel"].widget.attrs["list"] = "channels"
        self.fields["pattern"].widget.attrs.update(AS_TYPED | PREVIEW)

    def clean_channel(self) -> Channel:
        channel = self._channels.filter(number=self.cleaned_data["channel"]).first()
        if channel is None:
            raise forms.ValidationError("You have no channel with this number: make it first.")
        return channel
