"""How the figures of a host are shown."""

from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from console.spans import in_words
from thingscale.hosts import metrics

register = template.Library()
NOTHING = SafeString('<span class="muted">–</span>')
DAY = 86_400


@register.filter
def gauge(host: Any, name: str) -> SafeString:
    """A bar with its number, in the colour of its level."""
    number = getattr(host, name)
    if number is None:
        return NOTHING
    return format_html(
        '<span class="gauge gauge-{}">'
        '<progress class="meter" max="100" value="{}" aria-label="{} %">{} %</progress>'
        '<span class="gauge-number">{} %</span></span>',
        metrics.level(name, number),
        f"{min(100, max(0, number)):.1f}",
        f"{number:.0f}",
        f"{number:.0f}",
        f"{number:.0f}",
    )


@register.filter
def load(host: Any) -> SafeString:
    if host.load is None:
        return NOTHING
    level = metrics.level("load", host.load, host.cores)
    cores = f" of {host.cores:.0f}" if host.cores else ""
    return format_html(
        '<span class="gauge-{}"><span class="gauge-number">{}</span></span>'
        '<span class="muted small">{}</span>',
        level,
        f"{host.load:.2f}",
        cores,
    )


@register.filter
def uptime(seconds: float | None) -> str:
    """In its largest unit or two: 12 d, 3 h."""
    if seconds is None or seconds < 0:
        return "–"
    if seconds >= DAY:
        return f"{seconds // DAY:,.0f} d"
    return in_words(round(seconds / 60) * 60) if seconds >= 60 else f"{seconds:.0f} s"
