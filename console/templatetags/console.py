"""Small pieces of pages."""

from typing import Any

from django import template
from django.forms import BoundField, CheckboxInput
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """From static/console/icons.svg; the text beside it says what it means."""
    href = f"{static('console/icons.svg')}#{name}"
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}"></use></svg>', href)


@register.simple_tag(takes_context=True)
def nav(context: dict[str, Any], name: str, label: str) -> SafeString:
    """An entry of the menu; `name` is a url name, its page's `section`, and its icon."""
    current = ' aria-current="page"' if context.get("section") == name else ""
    text = '<li><a href="{}"' + current + ">{} {}</a></li>"
    return format_html(text, reverse(name), icon(name), label)


@register.simple_tag(takes_context=True)
def query(context: dict[str, Any], **changes: object) -> str:
    """This page's query string with these changes; None or "" takes a key out."""
    request: HttpRequest = context["request"]
    parameters = request.GET.copy()
    for key, value in changes.items():
        parameters.pop(key, None)
        if value not in {None, ""}:
            parameters[key] = str(value)
    return f"?{parameters.urlencode()}"


@register.filter
def is_checkbox(field: BoundField) -> bool:
    return isinstance(field.field.widget, CheckboxInput)


@register.filter
def moment(value: Any) -> SafeString | str:
    """A time in the person's zone, to the second; nothing for None."""
    if value is None:
        return ""
    local = timezone.localtime(value)
    text = f"{local:%Y-%m-%d %H:%M:%S}"
    return format_html('<time datetime="{}" class="nowrap">{}</time>', local.isoformat(), text)


@register.filter
def ago(value: Any) -> SafeString | str:
    """How long ago, with the exact time as its title; `never` for None, or for what is not there."""
    if not value:
        return "never"
    seconds = max(0, int((timezone.now() - value).total_seconds()))
    local = timezone.localtime(value)
    return format_html(
        '<time datetime="{}" title="{}" data-ago class="nowrap">{}</time>',
        local.isoformat(),
        f"{local:%Y-%m-%d %H:%M:%S}",
        in_words(seconds),
    )


def in_words(seconds: int) -> str:
    """As ago() of console.js says it."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago" if seconds >= 5 else "just now"
