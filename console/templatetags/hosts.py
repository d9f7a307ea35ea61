"""How the figures of a host are shown."""

from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from console.spans import in_words
from thingscale.hosts import metrics
from thingscale.hosts.details import Disk

register = template.Library()
NOTHING = SafeString('<span class="muted">–</span>')
DAY = 86_400


@register.filter
def gauge(host: Any, name: str) -> SafeString:
    """A bar with its number, in the colour of its level."""
    number = getattr(host, name)
    return NOTHING if number is None else _gauge(number, metrics.level(name, number))


@register.filter
def disk_bar(disk: Disk) -> SafeString:
    return _gauge(disk.percent, disk.level)


def _gauge(number: float, level: metrics.Level) -> SafeString:
    return format_html(
        '<span class="gauge gauge-{}">{}<span class="gauge-number">{} %</span></span>',
        level,
        _meter(number),
        f"{number:.0f}",
    )


def _meter(number: float) -> SafeString:
    """The number is beside it."""
    text = '<progress class="meter" max="100" value="{}" aria-hidden="true"></progress>'
    return format_html(text, f"{min(100, max(0, number)):.1f}")


@register.filter
def bar(host: Any, name: str) -> SafeString:
    """The bar alone."""
    number = getattr(host, name)
    if number is None:
        return SafeString()
    return format_html('<span class="gauge-{}">{}</span>', metrics.level(name, number), _meter(number))


@register.filter
def percent(host: Any, name: str) -> SafeString:
    number = getattr(host, name)
    if number is None:
        return NOTHING
    text = '<span class="gauge-{}"><span class="gauge-large">{} %</span></span>'
    return format_html(text, metrics.level(name, number), f"{number:.0f}")


@register.filter
def load_class(host: Any) -> str:
    return f"gauge-{metrics.level('load', host.load, host.cores)}"


@register.filter
def load(host: Any) -> SafeString:
    if host.load is None:
        return NOTHING
    level = metrics.level("load", host.load, host.cores)
    cores = f" of {host.cores:.0f}" if host.cores else ""
    return format_html(
        '<span class="gauge-{}"><span class="gauge-number">{}</span>'
        '<span class="muted small">{}</span></span>',
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
