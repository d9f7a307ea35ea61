"""The form of a contact point."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.forms.events import AS_TYPED


class ContactForm(forms.Form):
    """To change one, its address may stay empty: the one that it has is not shown."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": gettext_lazy("Night shift")}),
        help_text=gettext_lazy("As events list it."),
    )
    url = forms.CharField(
        label=gettext_lazy("Address"),
        max_length=2000,
        widget=forms.TextInput(attrs=AS_TYPED | {"class": "mono", "placeholder": "ntfys://ntfy.sh/my-topic"}),
        error_messages={
            "required": gettext_lazy("Give the address of a service, such as ntfys://ntfy.sh/my-topic.")
        },
    )

    def __init__(self, *args: Any, keeps: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if keeps:
            self.fields["url"].required = False
            self.fields["url"].help_text = _("Empty: it stays as it is.")
