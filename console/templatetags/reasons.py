"""`{{ code|reason }}`: why a message is not in its channel, in words."""

from django import template

from console.reasons import in_words

register = template.Library()
register.filter("reason", in_words)
