"""Forms of a channel, its streams and its tags."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.forms import BaseFormSet, formset_factory
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.vocabulary import counted
from thingscale.lib.names import MAX_TAG, TAG_RULE, bad_tag
from thingscale.streams.models import Channel

MAX_STREAMS = 1000  # with a label, in a channel
MAX_KEY = 200  # characters
RETENTION = gettext_lazy("Older datapoints are deleted. Empty: kept for ever.")


class ChannelForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=200,
        required=False,
        help_text=gettext_lazy("What it is about: Cold store, Roof."),
    )
    retention_days = forms.IntegerField(
        label=gettext_lazy("Keep datapoints for (days)"),
        required=False,
        min_value=1,
        max_value=36_500,
        help_text=RETENTION,
    )


class ChangeChannelForm(ChannelForm):
    """Asks once more before a shorter retention deletes datapoints."""

    shorter = forms.BooleanField(label=gettext_lazy("Delete them"), required=False)

    def __init__(self, *args: Any, kept: int | None, **kwargs: Any) -> None:
        """`kept` is how many days datapoints are kept now; None: for ever."""
        super().__init__(*args, **kwargs)
        text = self.data.get("retention_days", "") if self.is_bound else ""
        wants_fewer = text.isdecimal() and 0 < int(text[:9]) < (kept or 10**9)
        if not wants_fewer:
            del self.fields["shorter"]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "shorter" in self.fields and not cleaned.pop("shorter", False) and not self.errors:
            days = cleaned["retention_days"]
            question = _("Datapoints older than %(days)s are deleted soon, for ever. Sure?") % {
                "days": counted(days, "day")
            }
            self.add_error("shorter", question)
        return cleaned


class NewChannelForm(ChannelForm):
    number = forms.IntegerField(
        label=gettext_lazy("Number"),
        min_value=0,
        max_value=Channel.MAX_NUMBER,
        help_text=gettext_lazy("Apps name it by this. It can't be changed."),
    )
    field_order = ("number", "name", "retention_days")


if TYPE_CHECKING:
    _FormSet = BaseFormSet["StreamForm"]
else:
    _FormSet = BaseFormSet


def fits(key: str) -> bool:
    """Whether a form can carry this key of a value and return it unchanged."""
    return 0 < len(key) <= MAX_KEY and key.isprintable()


class StreamForm(forms.Form):
    key = forms.CharField(label=gettext_lazy("Key"), max_length=MAX_KEY, strip=False)
    label = forms.CharField(label=gettext_lazy("Label"), max_length=200, required=False)
    unit = forms.CharField(label=gettext_lazy("Unit"), max_length=200, required=False)


class BaseStreamFormSet(_FormSet):
    def clean(self) -> None:
        keys: set[str] = set()
        for form in self.forms:
            key = form.cleaned_data.get("key") if hasattr(form, "cleaned_data") else None
            if key in keys and not self._should_delete_form(form):  # type: ignore[attr-defined]
                form.add_error("key", _("This key is there twice: keep one of them."))
            if key:
                keys.add(key)

    def require_at_most(self, most: int) -> bool:
        """Whether at most so many keys have a label or a unit. If not, the form says so."""
        if len(self.labels()) <= most:
            return True
        rule = _("You can have %(keys)s with a label or a unit: leave some out.") % {
            "keys": counted(most, "key")
        }
        self._non_form_errors.append(rule)  # type: ignore[attr-defined]
        return False

    def labels(self) -> list[dict[str, Any]]:
        """The rows as a channel keeps them, without keys that have neither a label nor a unit."""
        rows = [form.cleaned_data for form in self.forms if form not in self.deleted_forms]
        names = ("key", "label", "unit")
        return [{name: row[name] for name in names} for row in rows if row.get("label") or row.get("unit")]


StreamFormSet: Any = formset_factory(
    StreamForm,
    formset=BaseStreamFormSet,
    extra=1,
    can_delete=True,
    max_num=MAX_STREAMS,
    absolute_max=MAX_STREAMS + 1,
)


class TagForm(forms.Form):
    name = forms.CharField(label=gettext_lazy("Tag"), max_length=MAX_TAG, strip=False)

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if bad_tag(name):
            raise forms.ValidationError(_("A tag has %(rule)s.") % {"rule": _(TAG_RULE)})
        return name


class ConfirmForm(forms.Form):
    """Asks to type a text, which shows that the person has read what is deleted."""

    typed = forms.CharField(widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._expected = expected
        self.fields["typed"].label = _("Type %(expected)s to confirm") % {"expected": expected}

    def clean_typed(self) -> str:
        if self.cleaned_data["typed"].strip() != self._expected:
            raise forms.ValidationError(
                _("Type %(expected)s, exactly as it stands here.") % {"expected": self._expected}
            )
        return self._expected
