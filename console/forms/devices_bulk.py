"""The form for an action on several devices."""

from typing import Any, NamedTuple

from django import forms

from console.forms.devices import NamedChannelField
from thingscale.provisioning.named_channels import ChannelName


class BulkAction(NamedTuple):
    verb: str  # on the button
    done: str  # "12 devices are ..."
    warning: str = ""


ACTIONS = {
    "enable": BulkAction("Enable", "enabled", "What is held for those that have a channel is stored."),
    "disable": BulkAction("Disable", "disabled", "What they send from now on is rejected."),
    "map": BulkAction("Map", "mapped", "What is held for those that are enabled is stored."),
    "activate": BulkAction("Enable and map", "enabled and mapped", "What is held for them is stored."),
    "unmap": BulkAction("Unmap", "unmapped", "What they send from now on is held, not stored."),
    "delete": BulkAction(
        "Delete",
        "gone",
        "Datapoints that are stored stay in their channels. Their held messages go with them."
        " Those that send again come back as new devices.",
    ),
}
MAPPING = {"map", "activate"}


class BulkForm(forms.Form):
    """`count` is the number of chosen devices. It has to be typed before they are deleted. `makes` is how
    many channels the person has seen that it would make."""

    action = forms.ChoiceField(choices=[(name, name) for name in ACTIONS], widget=forms.HiddenInput)
    confirmed = forms.BooleanField(required=False, widget=forms.HiddenInput)
    makes = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, count: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._count = count
        action = self.data.get("action")
        if action in MAPPING:
            self.fields["channel"] = NamedChannelField(
                error_messages={"required": "Choose a channel."},
                help_text="One that is not there yet is made. <code>own</code> gives each device its own.",
            )
        if action == "delete" and self.data.get("confirmed"):
            self.fields["typed"] = forms.CharField(
                label=f"Type {count} to confirm",
                widget=forms.TextInput(attrs={"autocomplete": "off", "inputmode": "numeric"}),
            )

    @property
    def action_name(self) -> str:
        return str(self.data.get("action"))

    @property
    def changes(self) -> dict[str, Any]:
        """The changes of a valid form, by the names of the model, but for the channel to map to."""
        match self.cleaned_data["action"]:
            case "enable" | "disable" as name:
                return {"enabled": name == "enable"}
            case "map":
                return {}
            case "activate":
                return {"enabled": True}
        return {"mapped_channel": None}

    @property
    def channel_name(self) -> ChannelName | None:
        found: ChannelName | None = self.cleaned_data.get("channel")
        return found

    def clean_typed(self) -> str:
        typed: str = self.cleaned_data["typed"].strip()
        if typed.replace(",", "") != str(self._count):
            raise forms.ValidationError(f"Type {self._count}, the number of devices that will be gone.")
        return typed
