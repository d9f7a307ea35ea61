"""`{{ code|reason }}`: why a message is not in its channel, in words."""

from django import template

from console.rejection_texts import for_intake, in_words, of_intake

register = template.Library()
register.filter("reason", in_words)
register.filter("for_intake", for_intake)
register.filter("of_intake", of_intake)
