"""Where links lead that several pages have."""

from django.urls import NoReverseMatch, reverse


def chart(number: int) -> str:
    """The page with a channel's values; its settings, as long as there is no such page."""
    try:
        return reverse("stream", args=[number])
    except NoReverseMatch:
        return reverse("channel", args=[number])


def device(pk: int | None) -> str:
    """Nothing for none, and as long as devices have no page."""
    try:
        return reverse("device", args=[pk]) if pk else ""
    except NoReverseMatch:
        return ""
