"""The form for an action on several devices."""

from typing import Any, NamedTuple

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from console.forms.devices import NamedChannelField
from thingscale.provisioning.named_channels import ChannelName


class BulkAction(NamedTuple):
    verb: Any  # in the title
    verb_devices: Any  # on the button
    done: Any
    warning: Any = ""


ACTIONS = {
    "enable": BulkAction(
        gettext_lazy("Enable"),
        gettext_lazy("Enable %(devices)s"),
        ngettext_lazy("%(devices)s is enabled.", "%(devices)s are enabled.", "number"),
        gettext_lazy("What is held for those that have a channel is stored."),
    ),
    "disable": BulkAction(
        gettext_lazy("Disable"),
        gettext_lazy("Disable %(devices)s"),
        ngettext_lazy("%(devices)s is disabled.", "%(devices)s are disabled.", "number"),
        gettext_lazy("What they send from now on is rejected."),
    ),
    "map": BulkAction(
        gettext_lazy("Map"),
        gettext_lazy("Map %(devices)s"),
        ngettext_lazy("%(devices)s is mapped.", "%(devices)s are mapped.", "number"),
        gettext_lazy("What is held for those that are enabled is stored."),
    ),
    "activate": BulkAction(
        gettext_lazy("Enable and map"),
        gettext_lazy("Enable and map %(devices)s"),
        ngettext_lazy("%(devices)s is enabled and mapped.", "%(devices)s are enabled and mapped.", "number"),
        gettext_lazy("What is held for them is stored."),
    ),
    "unmap": BulkAction(
        gettext_lazy("Unmap"),
        gettext_lazy("Unmap %(devices)s"),
        ngettext_lazy("%(devices)s is unmapped.", "%(devices)s are unmapped.", "number"),
        gettext_lazy("What they send from now on is held, not stored."),
    ),
    "delete": BulkAction(
        gettext_lazy("Delete"),
        gettext_lazy("Delete %(devices)s"),
        ngettext_lazy("%(devices)s is gone.", "%(devices)s are gone.", "number"),
        gettext_lazy(
            "Datapoints that are stored stay in their channels. Their held messages go with them."
            " Those that send again come back as new devices."
        ),
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
                error_messages={"required": _("Choose a channel.")},
                help_text=_("One that is not there yet is made. <code>own</code> gives each device its own."),
            )
        if action == "delete" and self.data.get("confirmed"):
            self.fields["typed"] = forms.CharField(
                label=_("Type %(count)s to confirm") % {"count": count},
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
            raise forms.ValidationError(
                _("Type %(count)s, the number of devices that will be gone.") % {"count": self._count}
            )
        return typed
