"""Several devices at once: those that are checked, or all that match the list's search and filter."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from console import left_held
from console.device_filter import DeviceFilter, filter_from_query
from console.forms.devices_bulk import ACTIONS, BulkForm
from console.request import UserRequest
from console.views.devices import SECTION, suggested
from thingscale.devices.actions import delete_devices
from thingscale.devices.models import Device
from thingscale.lib.plurals import counted
from thingscale.provisioning.actions import configure_devices


def bulk(request: UserRequest) -> HttpResponse:
    """Asks first where much is at stake: for a deletion, and for devices that the page did not show."""
    wanted = filter_from_query(request.POST)
    action = ACTIONS.get(request.POST.get("action", ""))
    if request.method != "POST" or action is None:
        return redirect("devices")
    chosen = _chosen(request, wanted)
    count = chosen.count()
    if not count:
        messages.warning(request, "No device was selected: check some first.")
        return _to_list(wanted)
    form = BulkForm(request.POST, user=request.user, count=count)
    sure = bool(request.POST.get("confirmed")) or (form.action_name != "delete" and "all" not in request.POST)
    if form.is_valid() and sure:
        _apply(request, chosen, form)
        return _to_list(wanted)
    return _ask(request, form, count, wanted)


def _chosen(request: UserRequest, wanted: DeviceFilter) -> Any:
    if "all" in request.POST:
        return wanted.devices(request.user)
    keys = [key for key in request.POST.getlist("pk") if key.isascii() and key.isdigit() and len(key) < 19]
    return Device.objects.for_user(request.user).filter(pk__in=keys)


def _apply(request: UserRequest, chosen: Any, form: BulkForm) -> None:
    if form.action_name == "delete":
        count = delete_devices(request.user, chosen)
    else:
        count = configure_devices(request.user, chosen, form.changes)
        left_held.warn(request)
    devices = counted(count, "device is,devices are")
    messages.success(request, f"{devices} {ACTIONS[form.action_name].done}.")


def _ask(request: UserRequest, form: BulkForm, count: int, wanted: DeviceFilter) -> HttpResponse:
    """The form again: for what is wrong with it, or for the last word."""
    action = ACTIONS[form.action_name]
    confirming = request.POST.copy()
    confirming["confirmed"] = "on"
    form = BulkForm(confirming, user=request.user, count=count)
    if not request.POST.get("confirmed"):
        form.errors.pop("typed", None)  # nothing could be typed yet
    devices = counted(count, "device")
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
        "back": _address(wanted),
    }
    return render(request, "console/device/bulk.html", SECTION | context)


def _to_list(wanted: DeviceFilter) -> HttpResponse:
    return redirect(_address(wanted))


def _address(wanted: DeviceFilter) -> str:
    query = wanted.query
    return f"{reverse('devices')}?{query}" if query else reverse("devices")
