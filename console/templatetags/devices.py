"""How a device is shown."""

from typing import Any

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from console.forms.devices import titled
from console.vocabulary import word
from thingscale.devices.fields import FACTS, DeviceText

register = template.Library()

TONES = {"new": "accent", "enabled": "ok", "disabled": "bad", "unmapped": "warn", "silent": "warn"}


def states(device: Any) -> list[str]:
    """The states of a device that was read with_last_seen(), the one that matters most first."""
    if device.activate_at is None:
        return ["new"]
    if not device.enabled:
        return ["disabled"]
    if device.mapped_channel_id is None:
        return ["unmapped", "enabled"]
    if device.silent_since is not None:
        return ["silent", "enabled"]
    return ["enabled"] if device.last_seen is not None else ["unheard", "enabled"]


@register.filter
def badges(device: Any, most: int | None = None) -> SafeString:
    words = states(device)[:most]
    text = '<span class="badge badge-{}">{}</span>'
    return format_html_join(" ", text, ((TONES.get(state, "plain"), word(state)) for state in words))


@register.filter
def visible(device_id: str) -> SafeString:
    """Quotes a device id with blanks at an end, which nobody would see."""
    text = device_id if device_id == device_id.strip() else f"“{device_id}”"
    return format_html('<span class="device-id">{}</span>', text)


register.filter(titled)


@register.simple_tag
def channel_options(channels: Any) -> SafeString:
    """The options of a datalist."""
    return format_html_join("", '<option value="{}">', ((titled(channel),) for channel in channels))


@register.filter
def facts(device: Any) -> list[tuple[DeviceText, str]]:
    """Those that are not empty."""
    return [(fact, text) for fact in FACTS if (text := getattr(device, fact.name))]


@register.filter
def listed_facts(device: Any) -> str:
    return " · ".join(text for fact, text in facts(device) if fact.listed)


@register.filter
def proto(version: int) -> str:
    """The version of MQTT, as people know it."""
    return {3: "3.1", 4: "3.1.1", 5: "5"}.get(version, str(version))
