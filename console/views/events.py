"""Events: what is watched, and whom it notifies."""

from collections.abc import Mapping
from functools import reduce
from itertools import chain
from operator import or_
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from console.forms.devices import ChannelField
from console.forms.events import MORE, NEW, PREVIEWED, EventForm
from console.mutes import MUTES, mute_end
from console.paging import PAGE_SIZE, page
from console.refused import field_and_sentence
from console.request import ConsoleRequest
from console.value_keys import value_keys
from console.views.devices import back, suggested
from console.vocabulary import counted
from thingscale.devices.models import Device
from thingscale.events import actions
from thingscale.events.actions import create_event, delete_event, ensure_secret, send_test, update_event
from thingscale.events.evaluate import Path
from thingscale.events.models import Delivery, Event, Incident
from thingscale.events.outbox import mail_addresses
from thingscale.events.overview import conditions, named, states_of
from thingscale.events.rhythm import rhythm
from thingscale.events.transports.mail import email_configured
from thingscale.lib import clock
from thingscale.lib.errors import ContractError
from thingscale.streams.models import Latest

SECTION = {"section": "alerts"}
LOOK_AT = 100  # newest values of a channel's tags, in which keys are looked for
OFFERED_KEYS = 200
SWITCH = {"0": "false", "1": "true"}
STATES_A_PAGE = 25
SHOWN = 10  # incidents and notifications, on the page of an event


def index(request: ConsoleRequest) -> HttpResponse:
    events = Event.objects.for_account(request.account).select_related("mapped_channel")
    text = request.GET.get("q", "").strip().replace("\0", "")
    if text:
        parts = ("description", "source", "devices", "mapped_channel__name")
        events = events.filter(reduce(or_, (Q(**{f"{part}__icontains": text}) for part in parts)))
    events = events.prefetch_related("contact_points")
    found = page(events, "number", PAGE_SIZE, request.GET.get("page", ""))
    states = states_of(found.rows)
    rows = [(event, states[event.pk]) for event in found.rows]
    context = {"page": found, "rows": rows, "q": text, "now": clock.now()}
    return render(request, "console/event/list.html", SECTION | context)


def create(request: ConsoleRequest) -> HttpResponse:
    """The query's names are those of the form's fields: a chart leads here with a channel, a key and a
    height."""
    given = {name: value for name, value in request.GET.items() if "\0" not in value}
    switched = SWITCH.get(str(given.get("threshold")))
    if switched and given.get("operator") == "=" and _is_switch(request, given):
        given["threshold"] = switched
    form = EventForm(request.POST or None, account=request.account, initial=NEW | given)
    if form.is_valid():
        try:
            event = create_event(request.account, form.event_fields(), form.contact_points())
        except ContractError as refused:
            form.refuse(refused)
        else:
            messages.success(request, _("Event %(number)s watches from now on.") % {"number": event.number})
            return redirect("event", event.number)
    return _form(request, form, {"more_open": bool(MORE & (form.errors.keys() | given.keys()))})


def edit(request: ConsoleRequest, number: int) -> HttpResponse:
    event = get_event(request, number)
    form = EventForm(request.POST or None, account=request.account, event=event)
    if form.is_valid():
        try:
            update_event(event, form.event_fields(), form.contact_points())
        except ContractError as refused:
            form.refuse(refused)
        else:
            messages.success(request, _("Saved."))
            return redirect("event", number)
    return _form(request, form, {"event": event})


def keys(request: ConsoleRequest) -> HttpResponse:
    """The options of a datalist: the keys in the newest values of a channel."""
    context = {"keys": _known_keys(request, request.GET.get("channel", ""))}
    return render(request, "console/event/_keys.html", context)


def usual(request: ConsoleRequest) -> HttpResponse:
    """How often the devices of a form usually send, a piece of the page."""
    form = EventForm(NEW | request.GET.dict(), account=request.account)
    form.is_valid()
    pattern, channel = form.cleaned_data.get("devices"), form.cleaned_data.get("channel")
    devices = Device.objects.for_account(request.account)
    if pattern:
        devices = devices.matching(pattern)
    if channel:
        devices = devices.filter(mapped_channel=channel)
    found = rhythm(devices) if pattern or channel else None
    return render(request, "console/event/_usual.html", {"rhythm": found})


def detail(request: ConsoleRequest, number: int) -> HttpResponse:
    event = get_event(request, number)
    found = conditions(request.account).filter(event=event)
    states = page(found, "-urgency", STATES_A_PAGE, request.GET.get("page", ""))
    deliveries = Delivery.objects.filter(event=event).select_related("contact_point", "incident")
    incidents = Incident.objects.filter(event=event).select_related("event")
    context = {
        "event": event,
        "page": states,
        "states": named(states.rows),
        "incidents": incidents.order_by("-started_at")[:SHOWN],
        "deliveries": deliveries.order_by("-created_at")[:SHOWN],
        "contact_points": event.contact_points.all(),
        "addresses": addresses(request),
        "email_works": email_configured(),
        "secret": ensure_secret(event) if event.notify_type == Event.Notify.HTTP else "",
        "each_datapoint": (Event.Kind.THRESHOLD, Event.Kind.CHANGE),
        "now": clock.now(),
    }
    return render(request, "console/event/detail.html", SECTION | context)


@require_POST
def mute(request: ConsoleRequest, number: int) -> HttpResponse:
    event = get_event(request, number)
    until = request.POST.get("until", "")
    if until not in MUTES:
        return HttpResponseBadRequest(f"Say until when: {', '.join(MUTES)}.")
    update_event(event, {"muted_until": mute_end(until)})
    return redirect("event", number)


@require_POST
def test(request: ConsoleRequest, number: int) -> HttpResponse:
    try:
        tests = send_test(get_event(request, number), request.actor)
    except ContractError as refused:
        messages.warning(request, field_and_sentence(refused)[1])
        return redirect("event", number)
    to = counted(len(tests), "receiver")
    messages.success(request, _("A test to %(to)s is on its way. Below is what becomes of it.") % {"to": to})
    return redirect(f"{reverse('deliveries')}?event={number}")


@require_POST
def rotate_secret(request: ConsoleRequest, number: int) -> HttpResponse:
    actions.rotate_secret(get_event(request, number))
    messages.success(request, _("The webhook is signed with a new secret from now on. Tell its receiver."))
    return redirect("event", number)


def delete(request: ConsoleRequest, number: int) -> HttpResponse:
    event = get_event(request, number)
    if request.method == "POST":
        delete_event(event)
        messages.success(request, _("Event %(number)s is gone.") % {"number": number})
        return redirect("events")
    name = f"{number}, {event.description}," if event.description else f"{number}"
    question = _(
        "This deletes the event %(name)s with its states. What it notified of stays in the history."
    ) % {"name": name}
    texts = {
        "title": _("Delete event %(number)s") % {"number": number},
        "question": question,
        "action": _("Delete event"),
    }
    context = SECTION | texts | {"form": forms.Form(), "back": reverse("event", args=[number])}
    return render(request, "console/confirm.html", context)


@require_POST
def switch(request: ConsoleRequest, number: int, on: bool) -> HttpResponse:
    update_event(get_event(request, number), {"enabled": on})
    messages.success(
        request,
        (_("Event %(number)s is enabled.") if on else _("Event %(number)s is disabled."))
        % {"number": number},
    )
    return back(request, reverse("event", args=[number]))


def get_event(request: ConsoleRequest, number: int) -> Event:
    events = Event.objects.for_account(request.account).select_related("mapped_channel")
    return get_object_or_404(events, number=number)


def addresses(request: ConsoleRequest) -> list[str]:
    """That get the e-mails of events."""
    return mail_addresses(request.account.email1, request.account.email2)


def _form(request: ConsoleRequest, form: EventForm, more: dict[str, Any]) -> HttpResponse:
    context = {
        "form": form,
        "channels": suggested(request),
        "keys": _known_keys(request, form["channel"].value()),
        "preview_fields": ",".join(PREVIEWED),
        "addresses": addresses(request),
        "email_works": email_configured(),
        "more_open": bool(MORE & form.errors.keys()),
    }
    return render(request, "console/event/form.html", SECTION | context | more)


def _known_keys(request: ConsoleRequest, channel: Any) -> list[str]:
    newest = _newest_values(request, channel)
    return list(dict.fromkeys(key for value in newest for key in value_keys(value)))[:OFFERED_KEYS]


def _is_switch(request: ConsoleRequest, given: Mapping[str, Any]) -> bool:
    """Whether it is true or false, which a chart shows as 1 and 0."""
    newest = _newest_values(request, given.get("channel", ""))
    found = chain.from_iterable(map(Path(given.get("source", "")).values, newest))
    return isinstance(next(found, None), bool)


def _newest_values(request: ConsoleRequest, channel: Any) -> list[Any]:
    """Of the tags of a channel of the account, if there is such a one."""
    try:
        channel = ChannelField(request.account, required=False).clean(channel)
    except ValidationError:
        channel = None
    if channel is None:
        return []
    latest = Latest.objects.shown().filter(channel=channel).order_by("-at")
    return list(latest.values_list("value", flat=True)[:LOOK_AT])
