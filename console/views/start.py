"""The first datapoint: code to run with the account's own tokens, and what arrives, live."""

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from console import snippets
from console.forms.start import DeviceIdForm, EnableForm
from console.request import ConsoleRequest
from thingscale.devices.models import Device
from thingscale.lib import clock
from thingscale.lib.errors import ContractError
from thingscale.provisioning.actions import start_device
from thingscale.streams import recent_messages
from thingscale.streams.models import Channel

SECTION = {"section": "home"}
READY = "first-device"  # `manage.py up` makes it, on channel 0
NEW = "my-first-device"
RECENT = timedelta(minutes=10)


def start(request: ConsoleRequest) -> HttpResponse:
    return _page(request, _arrived(request))


def panel(request: ConsoleRequest) -> HttpResponse:
    """A part of the page, for which it asks again when something has come."""
    return render(request, "console/start/_arrived.html", _arrived(request))


@require_POST
def enable(request: ConsoleRequest, pk: int) -> HttpResponse:
    """Enables a new device, and leads to its chart."""
    device = get_object_or_404(Device.objects.for_account(request.account), pk=pk)
    form = EnableForm(request.POST, auto_id=_ids(device))
    if form.is_valid():
        try:
            number = form.cleaned_data["number"]
            start_device(device, number)
        except ContractError as refused:
            form.add_error("number", refused.detail)
        else:
            text = _("%(device_id)s is enabled. What it sends is stored in channel %(number)s.") % {
                "device_id": device.device_id,
                "number": number,
            }
            messages.success(request, text)
            return redirect(f"{reverse('stream', args=[number])}?range=1h")
    return _page(request, {"arrived": [], "waiting": device, "form": form})


def _page(request: ConsoleRequest, arrived: dict[str, Any]) -> HttpResponse:
    device_id, form = _chosen_device(request)
    if not form.is_bound:
        form.initial = {"device": device_id}
    offered = snippets.offered(snippets.broker(request))
    chosen = next((one for one in offered if one.key == request.GET.get("with")), offered[0])
    device = Device.objects.for_account(request.account).enabled().filter(device_id=device_id)
    context = snippets.context(request, request.account, device_id)
    context |= {"snippets": offered, "chosen": chosen, "device_form": form}
    context["stored_in"] = device.values_list("mapped_channel__number", flat=True).first()
    return render(request, "console/start/page.html", SECTION | context | arrived)


def _chosen_device(request: ConsoleRequest) -> tuple[str, DeviceIdForm]:
    """The device id that the page is about: the one that was typed, or else that of the device that
    `manage.py up` made, or else one that is not there yet."""
    form = DeviceIdForm(request.GET if "device" in request.GET else None)
    if form.is_valid():
        return form.cleaned_data["device"], form
    ready = Device.objects.for_account(request.account).enabled().filter(mapped_channel__isnull=False)
    return (READY if ready.filter(device_id=READY).exists() else NEW), form


def _arrived(request: ConsoleRequest) -> dict[str, Any]:
    """What has come from the chosen device, with a form that enables a new device."""
    since = clock.now() - RECENT
    newest = recent_messages.newest_of_device_id(request.account, _chosen_device(request)[0])
    found = [message for message in newest if message.at > since]
    pk = next((message.device_pk for message in found if message.status == "held"), None)
    if pk is None:
        return {"arrived": found}
    waiting = Device.objects.for_account(request.account).get(pk=pk)
    initial = {"number": Channel.objects.for_account(request.account).free_number()}
    return {"arrived": found, "waiting": waiting, "form": EnableForm(initial=initial, auto_id=_ids(waiting))}


def _ids(device: Device) -> str:
    """Ids of fields. The page keeps what is typed into a field with the same id when it asks again."""
    return f"enable-{device.pk}-%s"
