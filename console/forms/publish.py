"""The form to publish to devices."""

from typing import Any

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from thingscale.devices.commands import MAX_PAYLOAD
from thingscale.lib.names import MAX_TOPIC, valid_topic

MAX_DEVICES = 100
FORMATS = [("text", gettext_lazy("Text")), ("hex", gettext_lazy("Bytes, as hex digits"))]
QOS = [
    (0, gettext_lazy("0, at most once")),
    (1, gettext_lazy("1, at least once")),
    (2, gettext_lazy("2, exactly once")),
]
PAIRS = gettext_lazy("Hex digits come in pairs, such as 0a ff 10.")


class PublishForm(forms.Form):
    devices = forms.CharField(
        label=gettext_lazy("Device ids"),
        max_length=MAX_DEVICES * 70,
        help_text=format_lazy(gettext_lazy("One a line, at most {most}."), most=MAX_DEVICES),
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono low", "spellcheck": "false"}),
        error_messages={"required": gettext_lazy("Name at least one device.")},
    )
    payload = forms.CharField(
        label=gettext_lazy("Payload"),
        required=False,
        strip=False,
        help_text=gettext_lazy("Sent as it is, byte for byte."),
        widget=forms.Textarea(attrs={"rows": 5, "class": "mono", "spellcheck": "false"}),
    )
    format = forms.ChoiceField(
        label=gettext_lazy("The payload is"), choices=FORMATS, widget=forms.RadioSelect, initial="text"
    )
    qos = forms.TypedChoiceField(label="QoS", choices=QOS, coerce=int, widget=forms.RadioSelect, initial=1)
    topic = forms.CharField(
        label=gettext_lazy("Topic"),
        required=False,
        strip=False,
        max_length=MAX_TOPIC,
        help_text=gettext_lazy("What comes behind TOKEN/. Empty: each device's own, DEVICE/subscribe."),
        widget=forms.TextInput(
            attrs={
                "class": "mono",
                "autocomplete": "off",
                "spellcheck": "false",
                "placeholder": "DEVICE/subscribe",
            }
        ),
    )
    retain = forms.BooleanField(
        label=gettext_lazy("Retain it"),
        required=False,
        help_text=gettext_lazy(
            "Whoever subscribes later gets it, too. An empty payload takes back the last one."
        ),
    )

    def clean_topic(self) -> str:
        topic: str = self.cleaned_data["topic"]
        if topic and not valid_topic(topic):
            raise forms.ValidationError(_("A topic to publish to has no + and no #."))
        return topic

    def clean_devices(self) -> list[str]:
        lines = (line.strip() for line in self.cleaned_data["devices"].splitlines())
        ids = list(dict.fromkeys(filter(None, lines)))
        if len(ids) > MAX_DEVICES:
            raise forms.ValidationError(
                _("These are %(value)s devices: name at most %(max_devices)s at once.")
                % {"value": len(ids), "max_devices": MAX_DEVICES}
            )
        return ids

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        if "payload" in cleaned and "format" in cleaned:
            try:
                text = cleaned["payload"].replace("\r\n", "\n")  # browsers send ends of lines as CR LF
                cleaned["bytes"] = bytes.fromhex(text) if cleaned["format"] == "hex" else text.encode()
            except ValueError:
                self.add_error("payload", PAIRS)
        if cleaned.get("topic") and len(cleaned.get("devices", ())) > 1:
            self.add_error("topic", _("Name one device, whose history keeps it: a topic gets it once."))
        if len(cleaned.get("bytes", b"")) > MAX_PAYLOAD:
            self.add_error(
                "payload", _("It is too long: send at most %(value)s KiB.") % {"value": MAX_PAYLOAD // 1024}
            )
        return cleaned
