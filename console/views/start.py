"""The first datapoint: code to run with the account's own tokens, and what came of it, as it comes."""

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from console import snippets
from console.forms.start import DeviceIdForm, EnableForm
from console.request import UserRequest
from thingscale.devices.models import Device
from thingscale.lib.errors import ContractError
from thingscale.provisioning.actions import start_device
from thingscale.streams import recent_messages
from thingscale.streams.models import Channel

SECTION = {"section": "home"}
READY = "first-device"  # `manage.py up` makes it, on channel 0
NEW = "my-first-device"
RECENT = timedelta(minutes=10)


def start(request: UserRequest) -> HttpResponse:
    return _page(request, _arrived(request, _waited_for(request)))


def panel(request: UserRequest) -> HttpResponse:
    """What the page asks for again when something has come."""
    arrived = _arrived(request, _waited_for(request))
    return render(request, "console/start/_arrived.html", arrived)


@require_POST
def enable(request: UserRequest, pk: int) -> HttpResponse:
    """From a new device to its chart."""
    device = get_object_or_404(Device.objects.for_user(request.user), pk=pk)
    form = EnableForm(request.POST, auto_id=_ids(device))
    if form.is_valid():
        try:
            start_device(device, number := form.cleaned_data["number"])
        except ContractError as refused:
            form.add_error("number", refused.detail)
        else:
            text = f"{device.device_id} is enabled. What it sends is stored in channel {number}."
            messages.success(request, text)
            return redirect(f"{reverse('stream', args=[number])}?range=1h")
    return _page(request, {"arrived": [], "waiting": device, "form": form})


def _page(request: UserRequest, arrived: dict[str, Any]) -> HttpResponse:
    form = DeviceIdForm(request.GET if "device" in request.GET else None)
    device_id = form.device_id(_proposed(request))
    if not form.is_bound:
        form.initial = {"device": device_id}
    offered = snippets.offered(snippets.broker(request))
    chosen = next((one for one in offered if one.key == request.GET.get("with")), offered[0])
    context = snippets.context(request, request.user, device_id)
    context |= {"snippets": offered, "chosen": chosen, "device_form": form}
    context["stored_in"] = _stored_in(request, device_id)
    return render(request, "console/start/page.html", SECTION | context | arrived)


def _proposed(request: UserRequest) -> str:
    """The device that is ready to store, if `manage.py up` made one; else one that is not there yet."""
    ready = Device.objects.for_user(request.user).enabled().filter(mapped_channel__isnull=False)
    return READY if ready.filter(device_id=READY).exists() else NEW


def _stored_in(request: UserRequest, device_id: str) -> int | None:
    """The channel that stores what this device sends now."""
    devices = Device.objects.for_user(request.user).enabled().filter(device_id=device_id)
    return devices.values_list("mapped_channel__number", flat=True).first()


def _waited_for(request: UserRequest) -> str:
    form = DeviceIdForm(request.GET if "device" in request.GET else None)
    return form.device_id(_proposed(request))


def _arrived(request: UserRequest, device_id: str) -> dict[str, Any]:
    since = timezone.now() - RECENT
    found = [arrival for arrival in recent_messages.newest_of(request.user, device_id) if arrival.at > since]
    pk = next((arrival.device_pk for arrival in found if arrival.status == "held"), None)
    if pk is None:
        return {"arrived": found}
    initial = {"number": Channel.objects.for_user(request.user).free_number()}
    waiting = Device.objects.for_user(request.user).get(pk=pk)
    return {"arrived": found, "waiting": waiting, "form": EnableForm(initial=initial, auto_id=_ids(waiting))}


def _ids(device: Device) -> str:
    """Of fields, so that the page keeps what is typed into them when it asks again."""
    return f"enable-{device.pk}-%s"
