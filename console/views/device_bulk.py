"""Several devices at once: those that are checked, or all that match the list's search and filter."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from console import left_held
from console.device_filter import DeviceFilter, filter_from_query
from console.forms.devices_bulk import ACTIONS, BulkForm
from console.request import ConsoleRequest
from console.views.devices import SECTION, suggested
from thingscale.devices.actions import delete_devices
from thingscale.devices.models import Device
from thingscale.lib.plurals import counted
from thingscale.provisioning.actions import configure_devices


def bulk(request: ConsoleRequest) -> HttpResponse:
    """Asks first where much is at stake: for a deletion, and for devices that the page did not show."""
    wanted = filter_from_query(request.POST)
    to_list = f"{reverse('devices')}?{wanted.query}" if wanted.query else reverse("devices")
    action = ACTIONS.get(request.POST.get("action", ""))
    if request.method != "POST" or action is None:
        return redirect("devices")
    if "all" in request.POST:
        chosen = wanted.devices(request.account)
    else:
        keys = [
            key for key in request.POST.getlist("pk") if key.isascii() and key.isdigit() and len(key) < 19
        ]
        chosen = Device.objects.for_account(request.account).filter(pk__in=keys)
    count = chosen.count()
    if not count:
        messages.warning(request, "No device was selected: check some first.")
        return redirect(to_list)
    form = BulkForm(request.POST, account=request.account, count=count)
    sure = bool(request.POST.get("confirmed")) or (form.action_name != "delete" and "all" not in request.POST)
    if form.is_valid() and sure:
        if form.action_name == "delete":
            count = delete_devices(request.account, chosen)
        else:
            count = configure_devices(request.account, chosen, form.changes)
            left_held.warn(request)
        messages.success(request, f"{counted(count, 'device is,devices are')} {action.done}.")
        return redirect(to_list)
    return _ask(request, count, wanted, to_list)


def _ask(request: ConsoleRequest, count: int, wanted: DeviceFilter, back: str) -> HttpResponse:
    """Shows the form again, with what is wrong in it or with the last question."""
    confirming = request.POST.copy()
    confirming["confirmed"] = "on"
    form = BulkForm(confirming, account=request.account, count=count)
    if not request.POST.get("confirmed"):
        form.errors.pop("typed", None)  # nothing could be typed yet
    action, devices = ACTIONS[form.action_name], counted(count, "device")
    context = {
        "form": form,
        "title": f"{action.verb}: {devices}",
        "action": f"{action.verb} {devices}",
        "danger": form.action_name == "delete",
        "warning": action.warning,
        "wanted": wanted,
        "count": count,
        "keys": [] if "all" in request.POST else request.POST.getlist("pk"),
        "all": "all" in request.POST,
        "channels": suggested(request),
        "back": back,
    }
    return render(request, "console/device/bulk.html", SECTION | context)
