"""Intakes: doors for programs whose topics or payloads can't be changed."""

from typing import Any
from zlib import crc32

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from console import snippets
from console.forms.intakes import IntakeForm, NewIntakeForm, TryForm, lines_of
from console.programs import OTHER, Program, filled, first_mapping, for_topic, program_of, programs
from console.request import ConsoleRequest, own_path
from thingscale.accounts import encryption
from thingscale.accounts.actions import choose_own_topics
from thingscale.accounts.credentials import credentials
from thingscale.devices.models import Device
from thingscale.intakes import actions
from thingscale.intakes.decoding import readings_of
from thingscale.intakes.formats.readings import BadBody
from thingscale.intakes.messages import excerpt_of
from thingscale.intakes.models import Intake, IntakeMessage, topic_fields
from thingscale.intakes.validation import check_intake
from thingscale.lib.clock import from_us, now_us
from thingscale.lib.errors import ContractError
from thingscale.lib.excerpts import excerpt
from thingscale.web.base_url import base_url

SECTION = {"section": "intakes"}
NEW_KEY = "intake-key"  # in the session, encrypted, until it is shown


def index(request: ConsoleRequest) -> HttpResponse:
    intakes = list(Intake.objects.for_account(request.account))
    newest = (
        IntakeMessage.objects.filter(intake__in=intakes).order_by("intake_id", "-id").distinct("intake_id")
    )
    last = {message.intake_id: message for message in newest.defer("body", "headers", "readings")}
    rows = [{"intake": each, "program": program_of(each), "last": last.get(each.pk)} for each in intakes]
    context = {"rows": rows, "gateway": _has_gateway()}
    return render(request, "console/intake/list.html", SECTION | context)


def create(request: ConsoleRequest) -> HttpResponse:
    topic = request.GET.get("topic", "")
    program_name = for_topic(topic) if topic else request.GET.get("program")
    initial = {"program": program_name, "topics": topic if program_name == OTHER else ""}
    form = NewIntakeForm(request.POST or None, initial=initial)
    if form.is_valid():
        program = programs()[form.cleaned_data["program"]]
        fields: dict[str, Any] = {
            "name": form.cleaned_data["name"] or program.title,
            "format": program.format,
        }
        if program.name != OTHER:
            fields["preset"] = program.name
        if "mqtt" in program.ways:
            fields |= topic_fields(lines_of(form.cleaned_data["topics"]) or program.topics)
        if program.name == OTHER:
            fields["mapping"] = first_mapping(fields["topic"])
        try:
            intake, key = actions.create_intake(request.account, fields)
        except ContractError as refused:
            form.refuse(refused)
        else:
            _keep_key(request, intake, key)
            return redirect("intake", intake.number)
    context = {"form": form, "programs": programs().values(), "chosen": form["program"].value()}
    context["gateway"] = _has_gateway()
    return render(request, "console/intake/new.html", SECTION | context)


@never_cache
def detail(request: ConsoleRequest, number: int) -> HttpResponse:
    intake = _intake(request, number)
    program = program_of(intake)
    trying = TryForm(
        request.POST or None, _to_try(request, intake, program), intake.format == Intake.Format.MAPPED
    )
    context = {
        "intake": intake,
        "program": program,
        "key": _take_key(request, intake),
        "try": trying,
        "tried": _tried(request, intake, trying) if trying.is_valid() else None,
        **_messages(request, intake),
    }
    context |= _set_up(request, program, context["key"])
    return render(request, "console/intake/detail.html", SECTION | context)


def last(request: ConsoleRequest, number: int) -> HttpResponse:
    """A part of the page, for which it asks again when something has come."""
    intake = _intake(request, number)
    context = _messages(request, intake)
    if request.headers.get("X-Shown") == context["shown"]:
        return HttpResponse(status=204)
    return render(request, "console/intake/_messages.html", context | {"intake": intake})


def edit(request: ConsoleRequest, number: int) -> HttpResponse:
    intake = _intake(request, number)
    program = program_of(intake)
    form = IntakeForm(request.POST or None, intake)
    trying = TryForm(
        request.POST if "try" in request.POST else None,
        _to_try(request, intake, program),
        intake.format == Intake.Format.MAPPED,
    )
    tried = None
    if form.is_valid() and "try" not in request.POST:
        try:
            actions.update_intake(intake, form.changes)
        except ContractError as refused:
            form.refuse(refused)
        else:
            messages.success(request, _("Saved."))
            return redirect("intake", number)
    elif form.is_bound and form.is_valid() and trying.is_valid():
        for name, value in form.changes.items():
            setattr(intake, name, value)
        try:
            check_intake(intake)
        except ContractError as refused:
            form.refuse(refused)
        else:
            tried = _tried(request, intake, trying)
    context = {"intake": intake, "program": program, "form": form, "try": trying, "tried": tried}
    context["gateway"] = _has_gateway()
    return render(request, "console/intake/edit.html", SECTION | context)


@require_POST
def switch(request: ConsoleRequest, number: int, on: bool) -> HttpResponse:
    intake = _intake(request, number)
    actions.enable_intake(intake, on)
    became = _("%(name)s takes messages again.") if on else _("%(name)s is disabled: what comes is refused.")
    messages.success(request, became % {"name": intake.name})
    return redirect("intake", number)


@require_POST
def choose_topics(request: ConsoleRequest, on: bool) -> HttpResponse:
    """Whether clients of the account have topics without a token."""
    choose_own_topics(request.account, on)
    text = (
        _("Topics without a token are on.")
        if on
        else _("Topics without a token are off: no message comes by them.")
    )
    messages.success(request, text)
    return redirect(own_path(request, request.POST.get("next", "")) or "intakes")


def new_key(request: ConsoleRequest, number: int) -> HttpResponse:
    intake = _intake(request, number)
    if request.method == "POST":
        _keep_key(request, intake, actions.renew_key(intake))
        return redirect("intake", number)
    texts = {
        "title": _("Make a new key"),
        "question": _(
            "%(name)s gets a new URL. The one that it has ends at once: what is sent there"
            " is refused until the program has the new one."
        )
        % {"name": intake.name},
        "action": _("Make a new key"),
    }
    context = SECTION | texts | {"form": forms.Form(), "back": reverse("intake", args=[number])}
    return render(request, "console/confirm.html", context)


def delete(request: ConsoleRequest, number: int) -> HttpResponse:
    intake = _intake(request, number)
    if request.method == "POST":
        actions.delete_intake(intake)
        messages.success(request, _("%(name)s is gone. What it has stored stays.") % {"name": intake.name})
        return redirect("intakes")
    texts = {
        "title": _("Delete intake"),
        "question": _(
            "This deletes the intake %(name)s, its key and the list of its last messages."
            " What is sent there is refused then. What it has stored stays."
        )
        % {"name": intake.name},
        "action": _("Delete intake"),
    }
    context = SECTION | texts | {"form": forms.Form(), "back": reverse("intake", args=[number])}
    return render(request, "console/confirm.html", context)


def _intake(request: ConsoleRequest, number: int) -> Intake:
    return get_object_or_404(Intake.objects.for_account(request.account), number=number)


def _has_gateway() -> bool:
    """A broker of the site's own has no topics without a token."""
    return settings.INGEST_MODE != "broker"


def _keep_key(request: ConsoleRequest, intake: Intake, key: str) -> None:
    """For the page that comes next, and only there. It is nowhere in clear."""
    ciphertext = encryption.encrypt(key, encryption.Purpose.TOKEN)
    request.session[NEW_KEY] = [intake.pk, ciphertext.hex()]


def _take_key(request: ConsoleRequest, intake: Intake) -> str:
    """A key that was made just now; empty at any other time."""
    pk, ciphertext = request.session.get(NEW_KEY, (0, ""))
    if pk != intake.pk:
        return ""
    del request.session[NEW_KEY]
    try:
        return encryption.decrypt(bytes.fromhex(ciphertext), encryption.Purpose.TOKEN)
    except encryption.Undecryptable:
        return ""


def _set_up(request: ConsoleRequest, program: Program, key: str) -> dict[str, Any]:
    broker = snippets.broker(request)
    path = f"/in/{key or 'KEY'}"
    url = base_url(request) + path
    own = credentials(request.account)
    pastes = filled(program.paste, url, path, broker, own)
    return {"url": url, "broker": broker, "credentials": own, "pastes": pastes, "gateway": _has_gateway()}


def _to_try(request: ConsoleRequest, intake: Intake, program: Program) -> dict[str, str]:
    """A message that came in, if one of the last is named, or else a sample."""
    asked = request.GET.get("message", "")
    last = IntakeMessage.objects.filter(intake=intake) if asked else ()
    came = next((message for message in last if str(message.pk) == asked), None)
    if came is None:
        return {
            "topic": program.sample_topic,
            "headers": program.sample_headers,
            "body": program.sample,
            "form": program.sample_form,
        }
    body = excerpt(bytes(came.body))
    return {
        "topic": came.source.removeprefix("POST /in/.../"),
        "headers": "\n".join(f"{name}: {text}" for name, text in came.headers.items()),
        "body": body,
        "form": "text" if body.encode() == bytes(came.body) else "hex",
    }


def _tried(request: ConsoleRequest, intake: Intake, form: TryForm) -> dict[str, Any]:
    asked = form.cleaned_data
    try:
        readings = readings_of(
            intake, asked.get("topic") or None, asked["headers"], asked["payload"], now_us()
        )
    except BadBody as bad:
        return {"reason": bad.reason.value, "detail": bad.detail}
    shown = excerpt_of(readings)
    devices = _devices(request, {reading["device_id"] for reading in shown})
    return {"readings": [_reading(reading, devices) for reading in shown], "count": len(readings)}


def _messages(request: ConsoleRequest, intake: Intake) -> dict[str, Any]:
    """What came in last, beside what became of it. Devices are shown as they are now: one that was new may
    have its channel."""
    found = list(IntakeMessage.objects.filter(intake=intake).order_by("-id"))
    devices = _devices(request, {each["device_id"] for message in found for each in message.readings})
    rows = [
        {
            "message": message,
            "body": excerpt(bytes(message.body)),
            "cut": message.size > len(message.body),
            "readings": [_reading(each, devices) for each in message.readings],
            "waiting": [
                (name, devices.get(name))
                for name in dict.fromkeys(each["device_id"] for each in message.readings)
                if not devices.get(name, {}).get("stores")
            ],
        }
        for message in found
    ]
    states = sorted((name, each["stores"], each["pk"]) for name, each in devices.items())
    version = f"{found[0].pk if found else 0}-{crc32(repr(states).encode())}"
    return {"rows": rows, "shown": version}


def _devices(request: ConsoleRequest, ids: set[str]) -> dict[str, Any]:
    found = Device.objects.for_account(request.account).filter(device_id__in=ids)
    return {
        name: {"pk": pk, "enabled": enabled, "stores": enabled and channel is not None, "channel": channel}
        for name, pk, enabled, channel in found.values_list(
            "device_id", "pk", "enabled", "mapped_channel__number"
        )
    }


def _reading(reading: dict[str, Any], devices: dict[str, Any]) -> dict[str, Any]:
    at = reading["at"]
    return reading | {"at": None if at is None else from_us(at), "device": devices.get(reading["device_id"])}
