"""The form of a maintenance window."""

from datetime import timedelta
from typing import Any

from django import forms
from django.utils import timezone

from console.forms.events import AS_TYPED

LONGEST = timedelta(days=366)


def _moment(label: str) -> forms.DateTimeField:
    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    return forms.DateTimeField(label=label, widget=widget)


class MaintenanceForm(forms.Form):
    """Times are in the zone of who types them."""

    devices = forms.CharField(
        max_length=64,
        widget=forms.TextInput(attrs=AS_TYPED | {"class": "mono", "placeholder": "roof-*"}),
        help_text="<code>*</code> stands for anything, <code>?</code> for one character. <code>*</code> alone"
        " is all devices.",
    )
    starts_at = _moment("From")
    ends_at = _moment("Until")
    note = forms.CharField(
        max_length=200, required=False, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        starts, ends = cleaned.get("starts_at"), cleaned.get("ends_at")
        if ends and ends <= timezone.now():
            self.add_error("ends_at", "This is over: give a time to come.")
        elif starts and ends and ends <= starts:
            self.add_error("ends_at", "It has to end after it begins.")
        elif starts and ends and ends - starts > LONGEST:
            self.add_error("ends_at", f"It lasts at most {LONGEST.days} days. Disable the event instead.")
        return cleaned
