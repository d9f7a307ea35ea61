"""Bytes that devices get, for people."""

from django import template
from django.utils.translation import gettext as _

from thingscale.lib.excerpts import excerpt

register = template.Library()
SHOWN = 80


@register.filter
def payload(data: bytes) -> str:
    """The begin of it."""
    text = excerpt(bytes(data)[:SHOWN])
    return f"{text} …" if len(data) > SHOWN else text or _("(empty)")
