"""What the page of the first datapoint asks."""

from django import forms
from django.utils.translation import gettext_lazy

from thingscale.devices.models import validate_device_id
from thingscale.streams.models import Channel


class DeviceIdForm(forms.Form):
    """Which device the code on the page is for."""

    device = forms.CharField(
        label=gettext_lazy("Device id"),
        max_length=64,
        strip=False,
        validators=[validate_device_id],
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


class EnableForm(forms.Form):
    """The channel that a device's data goes to."""

    number = forms.IntegerField(
        label=gettext_lazy("Channel"),
        min_value=0,
        max_value=Channel.MAX_NUMBER,
        help_text=gettext_lazy(
            "Its data is kept under this number. The channel is made, if it is not there."
        ),
    )
