"""Bytes that devices send or get, for people."""

from django import template

register = template.Library()
SHOWN = 80


@register.filter
def payload(data: bytes) -> str:
    """Its text, or hex digits if it is none; the begin of it, if it is long."""
    try:
        text = bytes(data).decode()
    except UnicodeDecodeError:
        text = bytes(data).hex(" ")
    if not text:
        return "(empty)"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
