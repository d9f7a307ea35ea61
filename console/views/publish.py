"""Commands to devices, and those sent before."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from console.forms.publish import PublishForm
from console.paging import PAGE_SIZE, page
from console.request import UserRequest
from thingscale.accounts.models import User
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


def publish(request: UserRequest) -> HttpResponse:
    """What became of a command is shown once, on a page that may be loaded again without sending it again."""
    form = PublishForm(request.POST or None)
    if form.is_valid():
        results = _send(request.user, form.cleaned_data)
        typed = {name: request.POST.get(name, "") for name in form.fields}
        request.session[SENT] = {"results": results, "typed": typed}
        return redirect("publish")
    sent = request.session.pop(SENT, {}) if request.method == "GET" else {}
    if not form.is_bound:
        form = PublishForm(initial=_initial(request) or sent.get("typed"))
    commands = Command.objects.for_user(request.user).select_related("device")
    context = {
        "section": "publish",
        "form": form,
        "results": [Result(*result) for result in sent.get("results", ())],
        "history": page(commands, "-id", PAGE_SIZE, request.GET.get("page", "")),
        "gateway": settings.INGEST_MODE == "gateway",
    }
    return render(request, "console/publish/page.html", context)


def devices(request: UserRequest) -> HttpResponse:
    """Proposals for the field of device ids."""
    found = Device.objects.for_user(request.user).search(request.GET.get("q", "").strip())
    return render(request, "console/publish/_devices.html", {"devices": found.order_by("device_id")[:FOUND]})


def _initial(request: UserRequest) -> dict[str, Any]:
    """Of a device's page, or of a command that was sent before."""
    if pk := _key(request, "again"):
        command = get_object_or_404(Command.objects.for_user(request.user).select_related("device"), pk=pk)
        typed = _typed(bytes(command.payload))
        more = {"qos": command.qos, "retain": command.retain, "topic": command.topic}
        return {"devices": command.device.device_id} | more | typed
    if pk := _key(request, "device"):
        return {"devices": get_object_or_404(Device.objects.for_user(request.user), pk=pk).device_id}
    return {}


def _key(request: UserRequest, name: str) -> int:
    text = request.GET.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def _typed(payload: bytes) -> dict[str, str]:
    """As it would have to be typed to be sent again: text, if every byte of it survives the way."""
    text = payload.decode(errors="replace")
    if text.encode() == payload and "\0" not in text and "\r" not in text:
        return {"payload": text, "format": "text"}
    return {"payload": payload.hex(" "), "format": "hex"}


def _send(user: User, command: dict[str, Any]) -> list[Result]:
    known = {d.device_id: d for d in Device.objects.for_user(user).filter(device_id__in=command["devices"])}
    listening = _listening(user, list(known))
    results: list[Result] = []
    away = ""
    for device_id in command["devices"]:
        device = known.get(device_id)
        if device is None:
            results.append(
                Result(device_id, NO_DEVICE, "Nothing was sent. Check the id; upper and lower case differ.")
            )
            continue
        if not away:
            away = _send_one(user, device, command)
        status, detail = (NOT_SENT, away) if away else (Command.SENT, listening.get(device_id, ""))
        results.append(Result(device_id, status, detail, device.pk))
    return results


def _send_one(user: User, device: Device, command: dict[str, Any]) -> str:
    """Why it was not sent; empty if it was. After one failure the others would only wait in vain."""
    try:
        message = Message(command["bytes"], command["qos"], command["retain"], command["topic"])
        send(user, device, message, Command.By.CONSOLE)
    except ContractError as refused:
        return refused.detail
    return ""


def _listening(user: User, device_ids: Sequence[str]) -> dict[str, str]:
    """What is known of each device's connection. A client is advised to name itself by its device."""
    if settings.INGEST_MODE != "gateway" or not device_ids:
        return {}
    own = Q(client_id__in=device_ids)
    for device_id in device_ids:
        own |= Q(client_id__startswith=f"{device_id}_")
    clients = set(connected(user).filter(own).values_list("client_id", flat=True))
    return {device_id: _connection(device_id, clients) for device_id in device_ids}


def _connection(device_id: str, clients: set[str]) -> str:
    there = any(client == device_id or client.startswith(f"{device_id}_") for client in clients)
    return "A client of its name is connected." if there else "No client of its name is connected now."
