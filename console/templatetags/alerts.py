"""How events are shown."""

from datetime import datetime
from typing import Any

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from console.event_words import in_words
from console.spans import in_words as span
from console.vocabulary import word
from thingscale.accounts.encryption import Undecryptable
from thingscale.events.models import ContactPoint, Delivery, Incident
from thingscale.events.overview import count_firing
from thingscale.events.transports.services import masked
from thingscale.lib import clock

register = template.Library()
register.filter("watched", in_words)
register.filter("span", span)

SEVERITIES = {"critical": "bad", "warning": "warn", "info": "accent"}
STATES = {"firing": "bad", "pending": "warn", "no data": "warn", "ok": "ok", "muted": "", "disabled": ""}
MOST_SHOWN = 99  # in the menu


@register.filter
def event_name(event: Any) -> str:
    return event.description or in_words(event)


@register.filter
def severity(name: str) -> SafeString:
    return format_html('<span class="badge badge-{}">{}</span>', SEVERITIES.get(name, ""), word(name))


@register.filter
def state(name: str, count: int = 1) -> SafeString:
    """With the count, if it is more than one."""
    words = f"{count:,} {word(name)}" if count > 1 else word(name)
    return format_html('<span class="badge badge-{}">{}</span>', STATES.get(name, ""), words)


@register.filter
def firing_mark(name: str | None) -> SafeString | str:
    """That something of this severity fires, which leads to what it is."""
    if not name:
        return ""
    text = '<a class="badge badge-{}" href="{}">{} · {}</a>'
    return format_html(text, SEVERITIES.get(name, ""), reverse("alerts"), word("firing"), word(name))


DELIVERY = {"waiting": "accent", "sent": "ok", "failed": "bad", "left out": ""}


@register.filter
def delivery_status(name: str) -> SafeString:
    return format_html('<span class="badge badge-{}">{}</span>', DELIVERY.get(name, ""), word(name))


@register.filter
def receiver(delivery: Delivery) -> str:
    """Whom it goes to, so that he who knows him recognises him, and nobody else does."""
    if delivery.transport == Delivery.Transport.CONTACT:
        return delivery.contact_point.name if delivery.contact_point else _("a contact point that is gone")
    name, at, host = delivery.receiver.rpartition("@")
    return f"{name[:1]}•••@{host}" if at else delivery.receiver


@register.filter
def address(point: ContactPoint) -> str:
    """Without what is secret in it."""
    try:
        return masked(point.url)
    except Undecryptable:
        return _("can't be read")


@register.filter
def minute(value: datetime) -> SafeString:
    """A time in the actor's zone, to the minute."""
    local = timezone.localtime(value)
    text = f"{local:%Y-%m-%d %H:%M}"
    return format_html('<time datetime="{}" class="nowrap">{}</time>', local.isoformat(), text)


@register.filter
def time_of_day(value: datetime) -> SafeString:
    """Hours and minutes, with the day if it is not today."""
    local = timezone.localtime(value)
    text = (
        f"{local:%H:%M}"
        if local.date() == timezone.localdate()
        else f"{date_format(local, 'D')} {local:%H:%M}"
    )
    exact = f"{local:%Y-%m-%d %H:%M:%S}"
    return format_html('<time datetime="{}" title="{}">{}</time>', local.isoformat(), exact, text)


@register.filter
def lasted(incident: Incident) -> str:
    """How long, in its two largest units."""
    end = incident.ended_at or clock.now()
    words = span(max(0, int((end - incident.started_at).total_seconds()))).split(" ")
    return " ".join(words[:4])


@register.simple_tag
def key_options(keys: list[str]) -> SafeString:
    return format_html_join("", '<option value="{}">', ((key,) for key in keys))


@register.simple_tag(takes_context=True)
def firing_badge(context: dict[str, Any], again: bool = False) -> SafeString:
    """How much fires, beside the menu's entry. A page that has counted it says so in `firing_count`. `again`:
    it takes the place of the one in an open page."""
    count = context.get("firing_count")
    account = getattr(context.get("request"), "account", None)
    if count is None and account is not None:
        count = count_firing(account)
    badge = SafeString()
    if count:
        shown = f"{MOST_SHOWN}+" if count > MOST_SHOWN else str(count)
        text = '<span class="badge badge-bad">{}<span class="sr-only"> {}</span></span>'
        badge = format_html(text, shown, word("firing"))
    swap = SafeString(' hx-swap-oob="true"' if again else "")
    return format_html('<span class="nav-count" id="nav-count"{}>{}</span>', swap, badge)
