"""What an event watches, in a line: `temp > 30 for 5 min`."""

from console.spans import in_words as span
from thingscale.events.models import Event


def in_words(event: Event) -> str:
    """The part that is missing is left out, so that an event that does nothing yet has a line, too."""
    hold = f" for {span(event.hold)}" if event.hold else ""
    clear = f", until {event.clear}" if event.clear else ""
    return f"{_condition(event)}{hold}{clear}"


def _condition(event: Event) -> str:
    source, threshold = event.source or "the value", event.threshold
    match Event.Kind(event.kind):
        case Event.Kind.RANGE:
            return f"{source} outside of {threshold}"
        case Event.Kind.CHANGE:
            return f"{source} changes" + (f" by more than {threshold}" if threshold else "")
        case Event.Kind.RATE:
            return f"{source} moves by more than {threshold} within {span(event.window)}"
        case Event.Kind.SILENCE:
            return f"not heard for {span(event.period + event.grace)}"
    return f"{source} {event.operator} {threshold}"
