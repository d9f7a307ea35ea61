"""What is published, and to which devices."""

from typing import Any

from django import forms

from thingscale.devices.commands import MAX_PAYLOAD

MAX_DEVICES = 100
FORMATS = [("text", "Text"), ("hex", "Bytes, as hex digits")]
QOS = [(0, "0, at most once"), (1, "1, at least once")]
PAIRS = "Hex digits come in pairs, such as 0a ff 10."


class PublishForm(forms.Form):
    devices = forms.CharField(
        label="Device ids",
        max_length=MAX_DEVICES * 70,
        help_text=f"One a line, at most {MAX_DEVICES}.",
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono low", "spellcheck": "false"}),
        error_messages={"required": "Name at least one device."},
    )
    payload = forms.CharField(
        required=False,
        strip=False,
        help_text="Sent as it is, byte for byte. Subscribers of TOKEN/DEVICE/subscribe get it.",
        widget=forms.Textarea(attrs={"rows": 5, "class": "mono", "spellcheck": "false"}),
    )
    format = forms.ChoiceField(
        label="The payload is", choices=FORMATS, widget=forms.RadioSelect, initial="text"
    )
    qos = forms.TypedChoiceField(label="QoS", choices=QOS, coerce=int, widget=forms.RadioSelect, initial=1)

    def clean_devices(self) -> list[str]:
        lines = (line.strip() for line in self.cleaned_data["devices"].splitlines())
        ids = list(dict.fromkeys(filter(None, lines)))
        if len(ids) > MAX_DEVICES:
            raise forms.ValidationError(f"These are {len(ids)} devices: name at most {MAX_DEVICES} at once.")
        return ids

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        if "payload" in cleaned and "format" in cleaned:
            try:
                cleaned["bytes"] = _bytes(cleaned["payload"], cleaned["format"])
            except ValueError:
                self.add_error("payload", PAIRS)
        if len(cleaned.get("bytes", b"")) > MAX_PAYLOAD:
            self.add_error("payload", f"It is too long: send at most {MAX_PAYLOAD // 1024} KiB.")
        return cleaned


def _bytes(payload: str, form: str) -> bytes:
    """A browser sends the ends of lines as CR LF, whatever was typed. Raises ValueError."""
    return bytes.fromhex(payload) if form == "hex" else payload.replace("\r\n", "\n").encode()
