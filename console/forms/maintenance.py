"""The form of a maintenance window."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from console.forms.events import AS_TYPED


def _moment(label: Any) -> forms.DateTimeField:
    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    return forms.DateTimeField(label=label, widget=widget)


class MaintenanceForm(forms.Form):
    """Times are in the zone of who types them. What fits together, create_maintenance_window() checks."""

    devices = forms.CharField(
        label=gettext_lazy("Devices"),
        max_length=64,
        widget=forms.TextInput(attrs=AS_TYPED | {"class": "mono", "placeholder": "roof-*"}),
        help_text=gettext_lazy(
            "<code>*</code> stands for anything, <code>?</code> for one character."
            " <code>*</code> alone is all devices."
        ),
    )
    starts_at = _moment(gettext_lazy("From"))
    ends_at = _moment(gettext_lazy("Until"))
    note = forms.CharField(
        label=gettext_lazy("Note"),
        max_length=200,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
