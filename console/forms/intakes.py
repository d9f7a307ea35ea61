"""Forms of an intake."""

import json
from base64 import b64decode
from typing import Any

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.forms.events import AS_TYPED
from console.programs import in_order, programs
from console.refused import field_and_sentence
from thingscale.intakes.decoding import MAX_TRIED
from thingscale.intakes.models import Intake, topic_fields
from thingscale.intakes.presets import presets
from thingscale.intakes.validation import MAX_RATE, MAX_TOPICS
from thingscale.lib.errors import ContractError
from thingscale.lib.names import MAX_TOPIC

MONO = AS_TYPED | {"class": "mono"}
PRECISIONS = [
    ("ns", gettext_lazy("nanoseconds")),
    ("us", gettext_lazy("microseconds")),
    ("ms", gettext_lazy("milliseconds")),
    ("s", gettext_lazy("seconds")),
]
BODIES = [("text", gettext_lazy("Text")), ("hex", gettext_lazy("Hexadecimal")), ("base64", "Base64")]
TOPICS_HELP = gettext_lazy(
    "MQTT topics without a token that come here, one a line: <code>+</code> stands"
    " for one level, <code>#</code> for all that follow."
)


def topics_field(empty: Any) -> forms.CharField:
    return forms.CharField(
        max_length=MAX_TOPICS * (MAX_TOPIC + 2),
        required=False,
        widget=forms.Textarea(attrs=AS_TYPED | {"class": "mono low", "rows": 3}),
        help_text=format_lazy("{} {}", TOPICS_HELP, empty),
    )


def lines_of(text: str) -> list[str]:
    return [stripped for line in text.split("\n") if (stripped := line.strip())]


class NewIntakeForm(forms.Form):
    program = forms.ChoiceField(label=gettext_lazy("Program"), widget=forms.RadioSelect)
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=100,
        required=False,
        help_text=gettext_lazy("Empty: as the program is called."),
    )
    topics = topics_field(gettext_lazy("Empty: what the program publishes by itself."))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(program.name, program.title) for program in programs().values()]
        self.fields["program"].choices = choices  # type: ignore[attr-defined]

    def refuse(self, refused: ContractError) -> None:
        add_refusal(self, refused)


class IntakeForm(forms.Form):
    """Its fields depend on the intake's format."""

    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    topics = topics_field(gettext_lazy("Empty: HTTP only."))
    device_tags = forms.CharField(
        label=gettext_lazy("Tags that name the device"),
        max_length=1100,
        required=False,
        widget=forms.TextInput(attrs=MONO | {"placeholder": "host, device, entity_id"}),
        help_text=gettext_lazy("With commas between them; the first one that a line has counts."),
    )
    precision = forms.ChoiceField(
        label=gettext_lazy("Times are in"),
        required=False,
        choices=[("", gettext_lazy("what the sender says, or nanoseconds")), *PRECISIONS],
    )
    mapping = forms.CharField(
        label=gettext_lazy("Mapping"),
        max_length=50_000,
        required=False,
        strip=True,
        widget=forms.Textarea(attrs=AS_TYPED | {"class": "mono tall", "rows": 16}),
    )
    rate = forms.IntegerField(
        label=gettext_lazy("Datapoints a second"),
        required=False,
        min_value=1,
        max_value=MAX_RATE,
        widget=forms.NumberInput(attrs={"class": "short"}),
        help_text=gettext_lazy("At most. Empty: what your account may."),
    )

    def __init__(self, data: Any, intake: Intake) -> None:
        self._intake = intake
        options = intake.options
        super().__init__(
            data,
            initial={
                "name": intake.name,
                "topics": "\n".join(intake.topics),
                "rate": intake.rate,
                "mapping": json.dumps(in_order(self._mapping), indent=2, ensure_ascii=False),
                "device_tags": ", ".join(options.get("device_tags", [])),
                "precision": options.get("precision", ""),
            },
        )
        if intake.format != Intake.Format.MAPPED:
            del self.fields["topics"], self.fields["mapping"]
        elif intake.preset in presets():
            self.fields["mapping"].help_text = _("Empty: as the preset has it, also after an update.")
        if intake.format != Intake.Format.INFLUX:
            del self.fields["device_tags"], self.fields["precision"]

    @property
    def _mapping(self) -> Any:
        if self._intake.mapping is not None:
            return self._intake.mapping
        preset = presets().get(self._intake.preset)
        return preset.mapping if preset else {}

    def clean_mapping(self) -> Any:
        text = self.cleaned_data["mapping"]
        if not text:
            return None
        try:
            mapping = json.loads(text)
        except json.JSONDecodeError as error:
            sentence = _("This is no JSON: line %(lineno)s, column %(colno)s: %(msg)s.") % {
                "lineno": error.lineno,
                "colno": error.colno,
                "msg": error.msg,
            }
            raise forms.ValidationError(sentence) from None
        except (ValueError, RecursionError):
            raise forms.ValidationError(_("This is no JSON that can be read.")) from None
        preset = presets().get(self._intake.preset)
        return None if preset and mapping == preset.mapping else mapping

    @property
    def changes(self) -> dict[str, Any]:
        """Of a form that is valid, as update_intake() takes them."""
        found: dict[str, Any] = {
            name: self.cleaned_data[name] for name in ("name", "rate", "mapping") if name in self.fields
        }
        if "topics" in self.fields:
            found |= topic_fields(lines_of(self.cleaned_data["topics"]))
        if "device_tags" in self.fields:
            tags = [tag for each in self.cleaned_data["device_tags"].split(",") if (tag := each.strip())]
            given = {"device_tags": tags, "precision": self.cleaned_data["precision"]}
            found["options"] = {name: value for name, value in given.items() if value}
        return found

    def refuse(self, refused: ContractError) -> None:
        add_refusal(self, refused)


class TryForm(forms.Form):
    topic = forms.CharField(
        label=gettext_lazy("Topic"),
        max_length=1024,
        required=False,
        label_suffix="",
        widget=forms.TextInput(attrs=MONO),
    )
    headers = forms.CharField(
        label=gettext_lazy("Headers"),
        max_length=20_000,
        label_suffix="",
        required=False,
        widget=forms.Textarea(attrs=MONO | {"rows": 2, "class": "mono low", "placeholder": "X-Name: value"}),
    )
    body = forms.CharField(
        label=gettext_lazy("Payload"),
        max_length=2 * MAX_TRIED,
        required=False,
        strip=False,
        label_suffix="",
        widget=forms.Textarea(attrs=MONO | {"rows": 8}),
    )
    form = forms.ChoiceField(label=gettext_lazy("It is"), choices=BODIES, required=False, label_suffix="")

    def __init__(self, data: Any, initial: dict[str, str], with_topic: bool) -> None:
        super().__init__(data, initial=initial, prefix="try")
        if not with_topic:
            del self.fields["topic"]

    def clean_headers(self) -> dict[str, str]:
        found = {}
        for line in self.cleaned_data["headers"].splitlines():
            name, colon, text = line.partition(":")
            if line.strip() and (not colon or not name.strip()):
                raise forms.ValidationError(_("Write one a line, with a colon: X-Name: value"))
            found[name.strip().lower()] = text.strip()
        return found

    def clean(self) -> dict[str, Any]:
        fields: dict[str, Any] = super().clean() or self.cleaned_data
        text = fields.get("body", "").replace("\r\n", "\n")
        try:
            match fields.get("form"):
                case "hex":
                    fields["payload"] = bytes.fromhex(text)
                case "base64":
                    fields["payload"] = b64decode("".join(text.split()), validate=True)
                case _:
                    fields["payload"] = text.encode("utf-8", "replace")
        except ValueError:
            self.add_error(
                "body", _("This is not %(value)s.") % {"value": str(dict(BODIES)[fields["form"]]).lower()}
            )
        return fields


def add_refusal(form: forms.Form, refused: ContractError) -> None:
    name, sentence = field_and_sentence(refused)
    name = {"options": "device_tags", "topic": "topics"}.get(name, name)
    form.add_error(name if name in form.fields else None, sentence)
