"""Devices: the list, and what is done to one of them. Its page is in device_page.py."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import F
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_POST

from console.device_filter import ORDERS, filter_from_query
from console.forms.devices import DeviceForm, MapForm, NewDeviceForm, initial_of
from console.paging import PAGE_SIZE, page
from console.request import UserRequest, own_path
from thingscale.devices.actions import create_device, delete_device
from thingscale.devices.models import Device
from thingscale.lib.errors import ContractError
from thingscale.provisioning.actions import configure_device, map_to_new_channel
from thingscale.streams.models import Channel

SECTION = {"section": "devices"}
SUGGESTED = 1000  # channels, in an input's list; others are typed


def index(request: UserRequest) -> HttpResponse:
    """The whole page, or for htmx only its table."""
    wanted = filter_from_query(request.GET)
    order = request.GET.get("sort", "")
    order = order if order in ORDERS else "device_id"
    devices = wanted.devices(request.user).with_last_seen().select_related("mapped_channel")
    counts = wanted.counts(request.user)
    context = {
        "page": page(devices, order, PAGE_SIZE, request.GET.get("page", "")),
        "wanted": wanted,
        "counts": counts,
        "matching": counts[wanted.state],
        "sort": order,
        "orders": ORDERS,
    }
    fragment = "HX-Request" in request.headers and "HX-History-Restore-Request" not in request.headers
    if not fragment:
        context["channels"] = suggested(request)
    template = "console/device/_table.html" if fragment else "console/device/list.html"
    response = render(request, template, SECTION | context)
    patch_vary_headers(response, ["HX-Request"])
    return response


def create(request: UserRequest) -> HttpResponse:
    form = NewDeviceForm(request.POST or None, user=request.user, initial={"enabled": True})
    if form.is_valid():
        try:
            device = create_device(request.user, **form.cleaned_data)
        except ContractError as refused:
            form.add_error("device_id", refused.detail)
        else:
            messages.success(request, f"Device {device.device_id} is there. Below is how it sends.")
            return redirect("device", device.pk)
    context = SECTION | {"form": form, "channels": suggested(request)}
    return render(request, "console/device/new.html", context)


def edit(request: UserRequest, pk: int) -> HttpResponse:
    device = get_device(request, pk)
    form = DeviceForm(request.POST or None, user=request.user, initial=initial_of(device))
    if form.is_valid():
        try:
            configure_device(device, form.cleaned_data)
        except ContractError as refused:
            if refused.code != "QUOTA_EXCEEDED":
                raise
            form.add_error(None, refused.detail)
        else:
            messages.success(request, "Saved.")
            return redirect("device", pk)
    context = SECTION | {"form": form, "device": device, "channels": suggested(request)}
    return render(request, "console/device/edit.html", context)


def delete(request: UserRequest, pk: int) -> HttpResponse:
    device = get_device(request, pk)
    held = device.held.count()
    if request.method == "POST":
        delete_device(device)
        messages.success(request, f"Device {device.device_id} is gone. Its datapoints stay in their channel.")
        return redirect("devices")
    question = (
        f"This deletes the device {device.device_id}. Datapoints that are stored stay in their channel."
        f" Its held messages go with it: {held}. If it sends again, it comes back as a new device."
    )
    texts = {"title": "Delete device", "question": question, "action": "Delete device"}
    context = SECTION | texts | {"form": forms.Form(), "back": reverse("device", args=[pk])}
    return render(request, "console/confirm.html", context)


def map_to(request: UserRequest, pk: int) -> HttpResponse:
    """Maps, unmaps, and enables on the way if that is asked for. GET shows the same as a page of its own."""
    device = get_device(request, pk)
    form = MapForm(request.POST or None, user=request.user)
    if form.is_valid():
        try:
            device = _map(request, device, form.cleaned_data)
        except ContractError as refused:
            form.add_error("number" if form.cleaned_data["to"] == MapForm.NEW else "channel", refused.detail)
        else:
            messages.success(request, _mapped(device))
            return back(request, reverse("device", args=[pk]))
    context = {"device": device, "form": form, "channels": suggested(request), "number": _number(request)}
    return render(
        request, "console/device/map.html", SECTION | context | {"next": request.POST.get("next", "")}
    )


def _map(request: UserRequest, device: Device, wanted: Mapping[str, Any]) -> Device:
    changes = {"enabled": True} if wanted["enable"] else {}
    if wanted["to"] == MapForm.NEW:
        number = wanted["number"]
        return map_to_new_channel(device, _number(request) if number is None else number, changes)
    return configure_device(device, {"mapped_channel": wanted["channel"]} | changes)


def _mapped(device: Device) -> str:
    if device.mapped_channel is None:
        return f"Device {device.device_id} is unmapped: what it sends next is held."
    if device.enabled:
        return f"What {device.device_id} sends is stored in channel {device.mapped_channel.number}."
    return (
        f"Device {device.device_id} is mapped to channel {device.mapped_channel.number}. It is not enabled."
    )


def _number(request: UserRequest) -> int:
    return Channel.objects.for_user(request.user).free_number()


@require_POST
def switch(request: UserRequest, pk: int, on: bool) -> HttpResponse:
    try:
        device = configure_device(get_device(request, pk), {"enabled": on})
    except ContractError as refused:
        if refused.code != "QUOTA_EXCEEDED":
            raise
        messages.error(request, refused.detail)
    else:
        messages.success(request, f"Device {device.device_id} is {'enabled' if on else 'disabled'}.")
    return back(request, reverse("device", args=[pk]))


def get_device(request: UserRequest, pk: int) -> Any:
    """With `last_seen` and `messages`; None: never heard."""
    devices = (
        Device.objects.for_user(request.user).with_last_seen().annotate(messages=F("activity__messages"))
    )
    return get_object_or_404(devices.select_related("mapped_channel"), pk=pk)


def suggested(request: UserRequest) -> Any:
    return Channel.objects.for_user(request.user).only("number", "name")[:SUGGESTED]


def back(request: UserRequest, otherwise: str) -> HttpResponse:
    """To the page that the form stood on, if it said so."""
    return redirect(own_path(request, request.POST.get("next", "")) or otherwise)
