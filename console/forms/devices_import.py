"""A table of devices to import: uploaded, pasted, or carried from the page that showed what it would do."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.core import signing
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from thingscale.accounts.models import Account
from thingscale.lib.csv_file import MAX_BYTES

CARRIED_SECONDS = 30 * 60
MAX_CARRIED = 2_000_000  # characters, packed: what Django takes in a field without a setting of ours


class ImportForm(forms.Form):
    """`cleaned_data` has the bytes of the `table`, and in `seen` the channels that it would make, if the
    person has seen what it would do. Meanwhile the page carries both, packed and signed, so that nothing has
    to be stored here."""

    file = forms.FileField(
        label=gettext_lazy("CSV file"),
        required=False,
        widget=forms.FileInput(attrs={"accept": ".csv,text/csv,text/plain"}),
    )
    text = forms.CharField(
        label=gettext_lazy("Or paste it here"),
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"class": "mono", "rows": 8, "spellcheck": "false", "wrap": "off"}),
    )
    carried = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._salt = f"console.devices.import:{account.pk}"

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file and file.size > MAX_BYTES:
            raise forms.ValidationError(
                _("The file has more than %(value)s MB: import it in parts.") % {"value": MAX_BYTES // 2**20}
            )
        return file

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if carried := cleaned.get("carried"):
            try:
                kept = signing.loads(carried, salt=self._salt, max_age=CARRIED_SECONDS)
            except signing.BadSignature:
                rule = _("This preview is older than 30 minutes: give the table again.")
                raise forms.ValidationError(rule) from None
            text, seen = (
                (kept, []) if isinstance(kept, str) else kept
            )  # the release before carries the text alone
            return cleaned | {"table": text.encode(), "seen": seen}
        if file := cleaned.get("file"):
            return cleaned | {"table": file.read(), "seen": None}
        if not cleaned.get("text") and not self.errors:
            self.add_error("file", _("Choose a file, or paste the table below."))
        return cleaned | {"table": cleaned.get("text", "").encode(), "seen": None}

    def pack(self, table: bytes, channels: Sequence[str]) -> str | None:
        """None for a table that is too large. `channels` are those that it would make."""
        packed = signing.dumps([table.decode(), list(channels)], salt=self._salt, compress=True)
        return packed if len(packed) <= MAX_CARRIED else None
