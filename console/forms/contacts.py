"""The form of a contact point."""

from typing import Any

from django import forms

from console.forms.events import AS_TYPED


class ContactForm(forms.Form):
    """To change one, its address may stay empty: the one that it has is not shown."""

    name = forms.CharField(
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "Night shift"}),
        help_text="As events list it.",
    )
    url = forms.CharField(
        label="Address",
        max_length=2000,
        widget=forms.TextInput(attrs=AS_TYPED | {"class": "mono", "placeholder": "ntfys://ntfy.sh/my-topic"}),
        error_messages={"required": "Give the address of a service, such as ntfys://ntfy.sh/my-topic."},
    )

    def __init__(self, *args: Any, keeps: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if keeps:
            self.fields["url"].required = False
            self.fields["url"].help_text = "Empty: it stays as it is."
