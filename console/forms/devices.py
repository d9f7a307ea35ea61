"""Forms of a device."""

import re
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from thingscale.accounts.models import Account
from thingscale.devices.fields import DESCRIPTION, FACTS
from thingscale.devices.models import validate_device_id
from thingscale.provisioning import named_channels
from thingscale.provisioning.named_channels import ChannelName, NotNamed
from thingscale.streams.models import Channel

_NUMBER = re.compile(r"\s*(\d{1,10})\s*(·.*)?", re.DOTALL)


def titled(channel: Channel) -> str:
    """The text that a ChannelField shows and takes."""
    return f"{channel.number} · {channel.name}" if channel.name else str(channel.number)


class ChannelField(forms.CharField):
    """A channel of the account: its number, its name, or both as a suggestion has them: `0 · First
    channel`."""

    widget = forms.TextInput(
        attrs={"list": "channels", "autocomplete": "off", "placeholder": gettext_lazy("Number or name")}
    )

    def __init__(self, account: Account, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._account = account

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        channels = Channel.objects.for_account(self._account)
        match = _NUMBER.fullmatch(text)
        if match:
            found = channels.filter(number=int(match[1])).first()
        else:
            named = list(channels.filter(name=text)[:2])
            found = named[0] if len(named) == 1 else None  # of two with this name, neither is meant for sure
        if found is None:
            name = match[1] if match else text
            raise forms.ValidationError(
                _("You have no channel %(name)s: choose one of the list, or make it.") % {"name": name}
            )
        return found

    def prepare_value(self, value: Any) -> Any:
        return titled(value) if isinstance(value, Channel) else value


class NamedChannelField(forms.CharField):
    """A channel that may have to be made, or each device's own. Cleaned to a ChannelName."""

    widget = forms.TextInput(
        attrs={"list": "channels", "autocomplete": "off", "placeholder": gettext_lazy("Number, name, or own")}
    )

    def clean(self, value: Any) -> ChannelName | None:
        text = super().clean(value)
        try:
            return named_channels.parse(text) if text else None
        except NotNamed as fault:
            raise forms.ValidationError(str(fault)) from None


class DeviceForm(forms.Form):
    """The cleaned data has the names of the model."""

    description = forms.CharField(
        label=gettext_lazy("Description"),
        max_length=DESCRIPTION.max_length,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    enabled = forms.BooleanField(
        label=gettext_lazy("Enabled"),
        required=False,
        help_text=gettext_lazy("If it is disabled later, what it sends is rejected, not held."),
    )

    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["mapped_channel"] = ChannelField(
            account,
            label=_("Channel"),
            required=False,
            help_text=_(
                "Where its data goes. Without one, the last 100 messages are held until there is one."
            ),
        )
        for fact in FACTS:
            self.fields[fact.name] = forms.CharField(
                label=fact.label, max_length=fact.max_length, required=False
            )
        self.order_fields(["device_id", "mapped_channel", "enabled", DESCRIPTION.name])


class NewDeviceForm(DeviceForm):
    device_id = forms.CharField(
        label=gettext_lazy("Device id"),
        max_length=64,
        strip=False,
        validators=[validate_device_id],
        widget=forms.TextInput(attrs={"class": "mono", "autocomplete": "off", "spellcheck": "false"}),
        help_text=gettext_lazy(
            "What the device calls itself: serial number, IMSI, host name. It can't be changed."
        ),
    )


class MapForm(forms.Form):
    """Maps to a channel that exists, or to a new one that is named after the device."""

    EXISTING, NEW, NONE = "existing", "new", "none"

    to = forms.ChoiceField(choices=[(name, name) for name in (EXISTING, NEW, NONE)])
    enable = forms.BooleanField(required=False)
    number = forms.IntegerField(
        label=gettext_lazy("Number of a new channel"),
        required=False,
        min_value=0,
        max_value=Channel.MAX_NUMBER,
    )

    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["channel"] = ChannelField(account, required=False)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("to") == self.EXISTING and not cleaned.get("channel") and "channel" not in self.errors:
            self.add_error("channel", _("Choose a channel, or map to a new one."))
        return cleaned
