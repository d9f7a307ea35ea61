"""Commands to devices, and those sent before."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from console.forms.publish import PublishForm
from console.paging import PAGE_SIZE, page
from console.request import ConsoleRequest
from thingscale.accounts.models import Account
from thingscale.devices.commands import Message, send
from thingscale.devices.models import Command, Device
from thingscale.devices.presence import connected
from thingscale.lib.errors import ContractError

NO_DEVICE = "no such device"
NOT_SENT = "not sent"
SENT = "publish"  # in the session
FOUND = 20


class Result(NamedTuple):
    """What became of a command to one device."""

    device_id: str
    status: str
    detail: str = ""
    pk: int | None = None


def publish(request: ConsoleRequest) -> HttpResponse:
    """Shows what became of a command once, on a page that may be loaded again without sending it again."""
    form = PublishForm(request.POST or None)
    if form.is_valid():
        results = _send(request.account, form.cleaned_data)
        typed = {name: request.POST.get(name, "") for name in form.fields}
        request.session[SENT] = {"results": results, "typed": typed}
        return redirect("publish")
    sent = request.session.pop(SENT, {}) if request.method == "GET" else {}
    if not form.is_bound:
        form = PublishForm(initial=_initial(request) or sent.get("typed"))
    commands = Command.objects.for_account(request.account).select_related("device")
    context = {
        "section": "publish",
        "form": form,
        "results": [Result(*result) for result in sent.get("results", ())],
        "history": page(commands, "-id", PAGE_SIZE, request.GET.get("page", "")),
        "gateway": settings.INGEST_MODE == "gateway",
    }
    return render(request, "console/publish/page.html", context)


def devices(request: ConsoleRequest) -> HttpResponse:
    """Proposals for the field of device ids."""
    found = Device.objects.for_account(request.account).search(request.GET.get("q", "").strip())
    return render(request, "console/publish/_devices.html", {"devices": found.order_by("device_id")[:FOUND]})


def _initial(request: ConsoleRequest) -> dict[str, Any]:
    """What the form begins with: a device, where its page leads here, or a command that was sent before."""
    if pk := _key(request, "again"):
        commands = Command.objects.for_account(request.account).select_related("device")
        command = get_object_or_404(commands, pk=pk)
        payload = bytes(command.payload)
        text = payload.decode(errors="replace")
        # As text only if every byte of it comes back as it was.
        as_text = text.encode() == payload and "\0" not in text and "\r" not in text
        return {
            "devices": command.device.device_id,
            "qos": command.qos,
            "retain": command.retain,
            "topic": command.topic,
            "payload": text if as_text else payload.hex(" "),
            "format": "text" if as_text else "hex",
        }
    if pk := _key(request, "device"):
        return {"devices": get_object_or_404(Device.objects.for_account(request.account), pk=pk).device_id}
    return {}


def _key(request: ConsoleRequest, name: str) -> int:
    text = request.GET.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def _send(account: Account, command: dict[str, Any]) -> list[Result]:
    """Sends it to each device. After one failure the others are not tried: they would wait in vain."""
    asked = Device.objects.for_account(account).filter(device_id__in=command["devices"])
    known = {device.device_id: device for device in asked}
    connections = _connections(account, list(known))
    results: list[Result] = []
    failure = ""
    for device_id in command["devices"]:
        device = known.get(device_id)
        if device is None:
            detail = _("Nothing was sent. Check the id; upper and lower case differ.")
            results.append(Result(device_id, NO_DEVICE, detail))
            continue
        if not failure:
            message = Message(command["bytes"], command["qos"], command["retain"], command["topic"])
            try:
                send(account, device, message, Command.By.CONSOLE)
            except ContractError as refused:
                failure = refused.detail
        status, detail = (NOT_SENT, failure) if failure else (Command.SENT, connections.get(device_id, ""))
        results.append(Result(device_id, status, detail, device.pk))
    return results


def _connections(account: Account, device_ids: Sequence[str]) -> dict[str, str]:
    """A sentence about each device's connection. Clients are advised to name themselves by their device."""
    if settings.INGEST_MODE != "gateway" or not device_ids:
        return {}
    named = Q(client_id__in=device_ids)
    for device_id in device_ids:
        named |= Q(client_id__startswith=f"{device_id}_")
    clients = set(connected(account).filter(named).values_list("client_id", flat=True))
    sentences = {}
    for device_id in device_ids:
        there = any(client == device_id or client.startswith(f"{device_id}_") for client in clients)
        yes, no = _("A client of its name is connected."), _("No client of its name is connected now.")
        sentences[device_id] = yes if there else no
    return sentences
