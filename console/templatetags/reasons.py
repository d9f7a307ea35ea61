"""`{{ code|reason }}`: why a message is not in its channel, in words."""

from django import template

from console.rejection_texts import in_words

register = template.Library()
register.filter("reason", in_words)
