"""How events are shown."""

from typing import Any

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from console.event_words import in_words

register = template.Library()
register.filter("watched", in_words)


@register.filter
def event_name(event: Any) -> str:
    return event.description or in_words(event)


@register.simple_tag
def key_options(keys: list[str]) -> SafeString:
    return format_html_join("", '<option value="{}">', ((key,) for key in keys))
