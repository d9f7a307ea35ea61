"""Texts inside the code that people copy: quoted for the language that they stand in."""

import json
import shlex

from django import template

register = template.Library()


@register.filter
def shell(text: str) -> str:
    return shlex.quote(text)


@register.filter
def quoted(text: str) -> str:
    """For Python, JavaScript, C++ and YAML, which agree on this much."""
    return json.dumps(text, ensure_ascii=False)


@register.filter
def header(text: str) -> str:
    """For a header of Python's requests, which takes no other text than ASCII."""
    return quoted(text) if text.isascii() else f"{quoted(text)}.encode()"
