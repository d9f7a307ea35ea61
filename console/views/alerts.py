"""What fires now, and what did."""

import hashlib
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_POST

from console.mutes import MUTES, mute_end
from console.paging import PAGE_SIZE, page
from console.request import ConsoleRequest, is_fragment
from console.views.devices import SUGGESTED, back
from console.views.events import SECTION
from thingscale.events import actions
from thingscale.events.models import Condition, Event, Incident
from thingscale.events.overview import NamedCondition, conditions, named, too_much_waits
from thingscale.lib import clock

State = Condition.State
WAITING_SHOWN = 100  # that are pending or have no data


def index(request: ConsoleRequest) -> HttpResponse:
    """The whole page, or for htmx what may have changed; nothing if the open page shows just that."""
    cursor = request.GET.get("firing", "")
    firing = page(conditions(request.account, State.FIRING), "-urgency", PAGE_SIZE, cursor)
    others = conditions(request.account, State.PENDING, State.NO_DATA)
    waiting = page(others, "-urgency", WAITING_SHOWN)
    rows = named([*firing.rows, *waiting.rows])
    history = page(_filtered(request), "-started_at", PAGE_SIZE, request.GET.get("page", ""))
    is_too_much = too_much_waits(request.account)
    context = {
        "firing": rows[: len(firing.rows)],
        "firing_page": firing,
        "waiting": rows[len(firing.rows) :],
        "history": history,
        "filtered": any(request.GET.get(name) for name in ("event", "device", "severity")),
        "version": _version(rows, history.rows, is_too_much),
        "now": clock.now(),
        "too_much_waits": is_too_much,
    }
    fragment = is_fragment(request)
    if fragment and request.headers.get("X-Shown") == context["version"]:
        return HttpResponse(status=204)
    if not fragment:
        events = Event.objects.for_account(request.account)[:SUGGESTED]
        context |= {"events": events, "severities": Event.Severity.choices}
    template = "console/alert/_poll.html" if fragment else "console/alert/page.html"
    response = render(request, template, SECTION | context | {"fragment": fragment})
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_POST
def acknowledge(request: ConsoleRequest, pk: int) -> HttpResponse:
    incident = get_object_or_404(Incident.objects.for_account(request.account), pk=pk)
    actions.acknowledge(incident, request.actor)
    return back(request, reverse("alerts"))


@require_POST
def mute(request: ConsoleRequest, pk: int) -> HttpResponse:
    """For one device and tag of an event; that of a whole event is on its page."""
    condition = get_object_or_404(conditions(request.account), pk=pk)
    until = request.POST.get("until", "")
    if until not in MUTES:
        return HttpResponseBadRequest(f"Say until when: {', '.join(MUTES)}.")
    actions.mute(condition, mute_end(until))
    return back(request, reverse("alerts"))


def number_of(text: str) -> int:
    """`7 · Hall too warm` is 7; what begins with no number is -1, which nothing has."""
    number, _, _ = text.partition(" ")
    return int(number) if number.isascii() and number.isdecimal() and len(number) < 10 else -1


def _filtered(request: ConsoleRequest) -> QuerySet[Incident]:
    """The incidents that are over, or those of them that are asked for."""
    found = Incident.objects.for_account(request.account).exclude(ended_at=None).select_related("event")
    if event := request.GET.get("event", ""):
        found = found.filter(number=number_of(event))
    if device := request.GET.get("device", "").replace("\0", ""):
        found = found.filter(device_id__icontains=device)
    if (severity := request.GET.get("severity", "")) in Event.Severity.values:
        found = found.filter(severity=severity)
    return found


def _version(rows: list[NamedCondition], history: list[Incident], too_much_waits: bool) -> str:
    now = clock.now()
    shown: list[Any] = [too_much_waits, *((incident.pk, incident.ended_at) for incident in history)]
    for row in rows:
        condition = row.condition
        muted = condition.muted_until and condition.muted_until > now and condition.muted_until
        acknowledged = condition.incident and condition.incident.acknowledged_by
        shown += [
            condition.pk,
            condition.state,
            condition.value,
            muted,
            acknowledged,
            condition.event.description,
        ]
    return hashlib.sha256(repr(shown).encode()).hexdigest()[:16]
