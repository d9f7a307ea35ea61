"""The form of an event. Its fields have the names of the model, but for `channel`.

What belongs to one kind only is always part of the form, and hidden by the style sheet while another kind is
chosen: so the form works without JavaScript, and keeps what was typed when somebody looks at another kind.
"""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.urls import reverse_lazy
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from console.forms.devices import ChannelField
from console.refused import field_and_sentence
from console.spans import SpanField
from thingscale.accounts.models import Account
from thingscale.events.models import ContactPoint, Event
from thingscale.lib.errors import ContractError

AS_TYPED = {"autocapitalize": "off", "spellcheck": "false", "autocomplete": "off"}
KINDS = [
    (Event.Kind.THRESHOLD, gettext_lazy("A value passes a threshold")),
    (Event.Kind.RANGE, gettext_lazy("A value leaves a range")),
    (Event.Kind.CHANGE, gettext_lazy("A value changes")),
    (Event.Kind.RATE, gettext_lazy("A value moves fast")),
    (Event.Kind.TREND, gettext_lazy("A value will get somewhere")),
    (Event.Kind.SILENCE, gettext_lazy("A device goes silent")),
]
OPERATORS = [
    (Event.Operator.GREATER, gettext_lazy("> above")),
    (Event.Operator.AT_LEAST, gettext_lazy("≥ at least")),
    (Event.Operator.LESS, gettext_lazy("< below")),
    (Event.Operator.AT_MOST, gettext_lazy("≤ at most")),
    (Event.Operator.EQUAL, gettext_lazy("= equal to")),
    (Event.Operator.UNEQUAL, gettext_lazy("≠ other than")),
]
NOTIFY = [
    (Event.Notify.EMAIL, pgettext_lazy("way to notify", "E-mail")),
    (Event.Notify.HTTP, gettext_lazy("Webhook")),
    (Event.Notify.NONE, gettext_lazy("Neither of them")),
]
REPEATS = [
    (Event.Repeat.CROSSING, gettext_lazy("Once, when it begins, and again when it is over")),
    (Event.Repeat.EVERY, gettext_lazy("With each datapoint that matches")),
]
SEVERITIES = [
    (Event.Severity.INFO, gettext_lazy("Information")),
    (Event.Severity.WARNING, gettext_lazy("Warning")),
    (Event.Severity.CRITICAL, gettext_lazy("Critical")),
]
NEW = {
    "kind": "threshold",
    "operator": ">",
    "repeat": "crossing",
    "severity": "warning",
    "notify_type": "email",
}
MORE = frozenset({"repeat", "hold", "clear", "severity", "quiet_hours", "min_interval", "no_data_after"})
# Are in sight only where they are needed, or say beside them when they may be empty.
NOT_OPTIONAL = ("channel", "source", "threshold", "window", "ahead", "period", "post_url")
FIELD_OF = {"mapped_ch": "channel", "for": "hold", "channels": "contact_points"}  # of REST's names
# What the preview depends on. Nothing else of the form goes to it, addresses of receivers least of all.
PREVIEWED = (
    *("kind", "channel", "source", "operator", "threshold", "window", "devices", "period", "grace"),
    *("repeat", "hold", "clear", "min_interval", "no_data_after", "ahead"),
)


class EventForm(forms.Form):
    kind = forms.ChoiceField(label=gettext_lazy("When"), choices=KINDS, widget=forms.RadioSelect)
    source = forms.CharField(
        label=gettext_lazy("Key in the value"),
        max_length=1000,
        required=False,
        help_text=gettext_lazy(
            "<code>temp</code>, or <code>data:temp</code> one level down."
            " <code>value</code> for a bare number."
        ),
        widget=forms.TextInput(attrs=AS_TYPED | {"list": "keys", "class": "mono"}),
    )
    operator = forms.ChoiceField(label=gettext_lazy("Is"), choices=OPERATORS)
    threshold = forms.CharField(
        label=gettext_lazy("Threshold"),
        max_length=1000,
        required=False,
        widget=forms.TextInput(attrs=AS_TYPED | {"class": "mono"}),
    )
    window = SpanField(label=gettext_lazy("Within"), placeholder=gettext_lazy("10 min"))
    # The model's period, of a trend.
    ahead = SpanField(label=gettext_lazy("Gets there within"), placeholder=gettext_lazy("2 d"))
    devices = forms.CharField(
        label=gettext_lazy("Devices"),
        max_length=64,
        required=False,
        help_text=gettext_lazy(
            "Only those whose id matches. <code>*</code> stands for anything,"
            " <code>?</code> for one character."
        ),
        widget=forms.TextInput(attrs=AS_TYPED | {"class": "mono", "placeholder": "roof-*"}),
    )
    period = SpanField(label=gettext_lazy("It sends every"), placeholder=gettext_lazy("1 min"))
    grace = SpanField(
        label=gettext_lazy("And may be late by"),
        placeholder=gettext_lazy("2 min"),
        help_text=gettext_lazy("It is silent once both have passed."),
    )
    description = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=1000,
        required=False,
        help_text=gettext_lazy("Messages begin with it. Empty: what is watched."),
    )
    notify_type = forms.ChoiceField(label=gettext_lazy("Notify by"), choices=NOTIFY, widget=forms.RadioSelect)
    post_url = forms.CharField(
        label=gettext_lazy("Address of the webhook"),
        max_length=2000,
        required=False,
        widget=forms.URLInput(attrs=AS_TYPED | {"placeholder": "https://example.com/hook"}),
        help_text=gettext_lazy("Gets a POST with JSON, signed with a secret of this event."),
    )
    repeat = forms.ChoiceField(label=gettext_lazy("Notify"), choices=REPEATS, widget=forms.RadioSelect)
    hold = SpanField(
        label=gettext_lazy("Must hold for"),
        placeholder=gettext_lazy("at once"),
        help_text=gettext_lazy("A short peak notifies nobody."),
    )
    clear = forms.CharField(
        label=gettext_lazy("Is over at"),
        max_length=1000,
        required=False,
        widget=forms.TextInput(attrs=AS_TYPED | {"class": "mono short"}),
        help_text=gettext_lazy(
            "A second threshold, so that a value that wavers fires once. Empty: the first."
        ),
    )
    severity = forms.ChoiceField(label=gettext_lazy("Severity"), choices=SEVERITIES)
    min_interval = SpanField(
        label=gettext_lazy("At most every"),
        placeholder=gettext_lazy("no limit"),
        help_text=gettext_lazy("The least time between two notifications."),
    )
    quiet_hours = forms.CharField(
        label=gettext_lazy("Quiet hours"),
        max_length=11,
        required=False,
        widget=forms.TextInput(attrs=AS_TYPED | {"class": "short", "placeholder": "22:00-06:00"}),
    )
    no_data_after = SpanField(
        label=gettext_lazy("No data after"),
        placeholder=gettext_lazy("never"),
        help_text=gettext_lazy(
            "Without a datapoint for so long, the state is “no data” instead of the last one."
        ),
    )

    def __init__(self, *args: Any, account: Account, event: Event | None = None, **kwargs: Any) -> None:
        self._account = account
        self._event = event
        if event is not None:
            initial = {name: getattr(event, name) for name in self.base_fields if name != "ahead"}
            initial |= {
                "ahead": event.period if event.kind == Event.Kind.TREND else 0,
                "channel": event.mapped_channel,
                "contact_points": [point.pk for point in event.contact_points.all()],
            }
            kwargs["initial"] = initial
        super().__init__(*args, **kwargs)
        self.fields["channel"] = ChannelField(account, label=_("Channel"), required=False)
        self._points = {str(point.pk): point for point in ContactPoint.objects.for_account(account)}
        self.fields["contact_points"] = forms.MultipleChoiceField(
            label=_("Contact points"),
            choices=[
                (key, point.name if point.enabled else _("%(name)s (disabled)") % {"name": point.name})
                for key, point in self._points.items()
            ],
            required=False,
            widget=forms.CheckboxSelectMultiple,
        )
        self.fields["channel"].widget.attrs |= {"hx-get": reverse_lazy("event-keys"), "hx-target": "#keys"}
        for name in NOT_OPTIONAL:
            self.fields[name].label_suffix = ""
        for name, sentence in self._needed():
            self.fields[name].required = True
            self.fields[name].error_messages["required"] = sentence
        quiet = self.fields["quiet_hours"]
        quiet.help_text = _("Nobody is notified in them. Times in %(value)s.") % {
            "value": timezone.get_current_timezone_name()
        }

    def _needed(self) -> Iterator[tuple[str, str]]:
        """The fields that the chosen kind can't do without, and what is said when one is empty."""
        kind, notify = self["kind"].value(), self["notify_type"].value()
        if kind == Event.Kind.SILENCE:
            yield "period", _("Say how often the device sends.")
        else:
            yield "channel", _("Choose the channel that is watched.")
            yield "source", _("Name the key that is watched: value, if the values are bare numbers.")
        if kind in {Event.Kind.THRESHOLD, Event.Kind.RANGE, Event.Kind.RATE, Event.Kind.TREND}:
            yield "threshold", _("Say where it fires.")
        if kind in {Event.Kind.RATE, Event.Kind.TREND}:
            yield "window", _("Say within which time.")
        if kind == Event.Kind.TREND:
            yield "ahead", _("Say how far it looks ahead.")
        if notify == Event.Notify.HTTP:
            yield "post_url", _("Give an address such as https://example.com/hook.")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        ahead = cleaned.pop("ahead", 0)
        if cleaned.get("kind") == Event.Kind.TREND:
            cleaned["period"] = ahead
        nothing = not cleaned.get("devices") and not cleaned.get("channel") and "channel" not in self.errors
        if cleaned.get("kind") == Event.Kind.SILENCE and nothing:
            self.add_error("devices", _("Name the devices, * for all of them, or choose a channel."))
        return cleaned

    def event_fields(self) -> dict[str, Any]:
        """What create_event() and update_event() take."""
        fields = dict(self.cleaned_data)
        channel, _ = fields.pop("channel"), fields.pop("contact_points")
        return fields | {"mapped_channel_id": channel and channel.pk}

    def contact_points(self) -> list[ContactPoint]:
        return [self._points[key] for key in self.cleaned_data["contact_points"]]

    def refuse(self, refused: ContractError) -> None:
        """Puts the sentence beside its field."""
        name, sentence = field_and_sentence(refused)
        name = FIELD_OF.get(name, name)
        if name == "period" and self["kind"].value() == Event.Kind.TREND:
            name = "ahead"
        self.add_error(name if name in self.fields else None, sentence)
