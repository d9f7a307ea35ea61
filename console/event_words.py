"""What an event watches, in a line: `temp > 30 for 5 min`."""

from django.utils.translation import gettext as _

from console.spans import in_words as span
from thingscale.events.models import Event


def in_words(event: Event) -> str:
    """The part that is missing is left out, so that an event that does nothing yet has a line, too."""
    words = _condition(event)
    if event.hold:
        words = _("%(condition)s for %(span)s") % {"condition": words, "span": span(event.hold)}
    if event.clear:
        words = _("%(condition)s, until %(clear)s") % {"condition": words, "clear": event.clear}
    return words


def _condition(event: Event) -> str:
    source, threshold = event.source or _("the value"), event.threshold
    named = {"source": source, "threshold": threshold}
    match Event.Kind(event.kind):
        case Event.Kind.RANGE:
            return _("%(source)s outside of %(threshold)s") % named
        case Event.Kind.CHANGE:
            if threshold:
                return _("%(source)s changes by more than %(threshold)s") % named
            return _("%(source)s changes") % named
        case Event.Kind.RATE:
            named["span"] = span(event.window)
            return _("%(source)s moves by more than %(threshold)s within %(span)s") % named
        case Event.Kind.TREND:
            named |= {"operator": event.operator, "span": span(event.period)}
            return _("%(source)s gets %(operator)s %(threshold)s within %(span)s, as it goes") % named
        case Event.Kind.SILENCE:
            return _("not heard for %(span)s") % {"span": span(event.period + event.grace)}
    return f"{source} {event.operator} {threshold}"
