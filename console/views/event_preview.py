"""What an event would have done in the last days, beside its form. Nothing is written."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render

from console import event_preview_svg
from console.forms.events import NEW, PREVIEWED, EventForm
from console.request import ConsoleRequest
from thingscale.events.models import Event
from thingscale.events.preview import preview
from thingscale.events.validation import check_event
from thingscale.lib import clock
from thingscale.lib.errors import ContractError

SHOWN = 5  # times, the newest


def piece(request: ConsoleRequest) -> HttpResponse:
    """A piece of HTML, for a form that is being filled in."""
    given = {name: request.GET[name] for name in PREVIEWED if name in request.GET}
    form = EventForm(NEW | given, account=request.account)
    context: dict[str, Any] = {}
    if form.is_valid():
        fields = {name: form.cleaned_data[name] for name in PREVIEWED if name != "ahead"}
        event = Event(user_id=request.account.pk, mapped_channel=fields.pop("channel"), **fields)
        try:
            check_event(event)
            seen = preview(event, clock.now())
        except ContractError as refused:
            form.refuse(refused)
        except ValueError as lacks:
            context["missing"] = {"sentence": f"{lacks}."}
        else:
            firings = seen.replay.firings
            context |= {
                "seen": seen,
                "event": event,
                "fired": len(firings),
                "fires_now": any(firing.end is None for firing in firings),
                "newest": firings[: -SHOWN - 1 : -1],
                "drawing": event_preview_svg.draw(seen),
            }
    for name, sentences in form.errors.items():
        label = form.fields[name].label or name.capitalize() if name in form.fields else ""
        context["missing"] = {"label": label, "sentence": sentences[0]}
        break
    return render(request, "console/event/_preview.html", context)
