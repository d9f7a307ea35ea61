"""Small pieces of pages."""

from datetime import timedelta
from typing import Any

from django import template
from django.forms import BoundField, CheckboxInput
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from console.spans import UNIT_WORDS
from console.vocabulary import counted, word
from thingscale.accounts.limits import WORDS, use_in_words
from thingscale.accounts.models import Account
from thingscale.lib import clock
from thingscale.streams.datapoint_table import newest_time_until_now
from thingscale.streams.limit_warnings import LEVELS

register = template.Library()
NOW = 5  # seconds


@register.simple_tag
def icon(name: str) -> SafeString:
    """An icon of static/console/icons.svg. The text beside it says what it means."""
    href = f"{static('console/icons.svg')}#{name}"
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}"></use></svg>', href)


@register.simple_tag(takes_context=True)
def nav(context: dict[str, Any], name: str, label: str, more: str = "", also: str = "") -> SafeString:
    """An entry of the menu; `name` is a url name, its page's `section`, and its icon. `also`: another section
    that has no entry of its own."""
    current = ' aria-current="page"' if context.get("section") in {name, also or name} else ""
    text = '<li><a href="{}"' + current + ">{} {}{}</a></li>"
    return format_html(text, reverse(name), icon(name), label, more)


@register.inclusion_tag("console/_limits.html", takes_context=True)
def limit_banner(context: dict[str, Any]) -> dict[str, Any]:
    """Warns of limits of which at least 80 % are used. The account's row has the figures of the last look, so
    this needs no query."""
    account: Account | None = getattr(context.get("request"), "account", None)
    if account is None:
        return {}
    near = {
        name: (used, limit)
        for name in WORDS
        if (used := account.near_limits.get(name)) is not None
        and 100 * used >= LEVELS[0] * (limit := account.limit(name))
    }
    return {
        "short": [
            f"{WORDS[name].name} {_('full') if used >= limit else f'{100 * used // limit} %'}"
            for name, (used, limit) in near.items()
        ],
        "sentences": [
            use_in_words(name, used, limit, account.when_full) for name, (used, limit) in near.items()
        ],
        "full": any(used >= limit for used, limit in near.values()),
    }


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
    """A time in the actor's zone, to the second; nothing for None."""
    if value is None:
        return ""
    local = timezone.localtime(value)
    text = f"{local:%Y-%m-%d %H:%M:%S}"
    return format_html('<time datetime="{}" class="nowrap">{}</time>', local.isoformat(), text)


@register.filter
def ago(value: Any) -> SafeString | str:
    """How long ago or how far ahead a time is, with the exact time as a title; `never` for None or ""."""
    if not value:
        return _("never")
    seconds = int((clock.now() - value).total_seconds())
    local = timezone.localtime(value)
    return format_html(
        '<time datetime="{}" title="{}" data-ago class="nowrap">{}</time>',
        local.isoformat(),
        f"{local:%Y-%m-%d %H:%M:%S}",
        in_words(seconds),
    )


@register.filter
def newest(channel: Any) -> SafeString | str:
    """How long ago the newest datapoint of a channel with totals was. If it lies in the future, also how long
    ago the newest one by now was."""
    shown = ago(channel.last_update)
    if not channel.last_update or channel.last_update <= clock.now() + timedelta(seconds=NOW):
        return shown
    by_now = newest_time_until_now(channel.pk)
    return format_html(_("{}, by now {}"), shown, ago(by_now) if by_now else _("none"))


def in_words(seconds: int) -> str:
    """The same words as ago() of console.js. A few seconds are now, since clocks of devices differ by as
    much."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if abs(seconds) >= max(size, NOW):
            span = {"count": abs(seconds) // size, "unit": UNIT_WORDS[unit]}
            return (_("%(count)s %(unit)s ago") if seconds > 0 else _("in %(count)s %(unit)s")) % span
    return _("just now")


register.filter(counted)
register.filter(word)
