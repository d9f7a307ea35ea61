"""Devices: the list, and what is done to one of them. Its page is in device_page.py."""

from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import F
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from console.device_filter import ORDERS, filter_from_query
from console.forms.devices import DeviceForm, MapForm, NewDeviceForm
from console.paging import PAGE_SIZE, Page, page
from console.request import ConsoleRequest, is_fragment, own_path
from thingscale.devices.actions import create_device, delete_device
from thingscale.devices.fields import FACTS, TEXTS
from thingscale.devices.models import Device
from thingscale.events.overview import worst_firing
from thingscale.lib.errors import ContractError
from thingscale.provisioning.actions import configure_device, map_to_new_channel
from thingscale.streams.models import Channel

SECTION = {"section": "devices"}
SUGGESTED = 1000  # channels, in an input's list; others are typed


def index(request: ConsoleRequest) -> HttpResponse:
    """The whole page, or for htmx only its table."""
    wanted = filter_from_query(request.GET)
    order = request.GET.get("sort", "")
    order = order if order in ORDERS else "device_id"
    devices = wanted.devices(request.account).with_last_seen().select_related("mapped_channel")
    counts = wanted.counts(request.account)
    shown: Page[Any] = page(devices, order, PAGE_SIZE, request.GET.get("page", ""))
    firing = worst_firing(request.account, "device", [device.pk for device in shown.rows])
    for device in shown.rows:
        device.firing = firing.get(device.pk)
    context = {
        "page": shown,
        "wanted": wanted,
        "counts": counts,
        "matching": counts[wanted.state],
        "sort": order,
        "orders": ORDERS,
        "searched": _searched(),
        "facts_heading": capfirst(_(", ").join(str(fact.label).lower() for fact in FACTS if fact.listed)),
    }
    fragment = is_fragment(request)
    if not fragment:
        context["channels"] = suggested(request)
    template = "console/device/_table.html" if fragment else "console/device/list.html"
    response = render(request, template, SECTION | context)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _searched() -> str:
    *others, last = (_("id"), *(str(text.label).lower() for text in TEXTS if text.listed))
    return _("%(words)s or %(last)s") % {"words": capfirst(_(", ").join(others)), "last": last}


def create(request: ConsoleRequest) -> HttpResponse:
    form = NewDeviceForm(request.POST or None, account=request.account, initial={"enabled": True})
    if form.is_valid():
        try:
            device = create_device(request.account, **form.cleaned_data)
        except ContractError as refused:
            form.add_error("device_id", refused.detail)
        else:
            messages.success(
                request,
                _("Device %(device_id)s is there. Below is how it sends.") % {"device_id": device.device_id},
            )
            return redirect("device", device.pk)
    context = SECTION | {"form": form, "channels": suggested(request)}
    return render(request, "console/device/new.html", context)


def edit(request: ConsoleRequest, pk: int) -> HttpResponse:
    device = get_device(request, pk)
    names = ("mapped_channel", "enabled", *(text.name for text in TEXTS))
    initial = {name: getattr(device, name) for name in names}
    form = DeviceForm(request.POST or None, account=request.account, initial=initial)
    if form.is_valid():
        try:
            configure_device(device, form.cleaned_data)
        except ContractError as refused:
            if refused.code != "QUOTA_EXCEEDED":
                raise
            form.add_error(None, refused.detail)
        else:
            messages.success(request, _("Saved."))
            return redirect("device", pk)
    context = SECTION | {"form": form, "device": device, "channels": suggested(request)}
    return render(request, "console/device/edit.html", context)


def delete(request: ConsoleRequest, pk: int) -> HttpResponse:
    device = get_device(request, pk)
    held = device.held.count()
    if request.method == "POST":
        delete_device(device)
        messages.success(
            request,
            _("Device %(device_id)s is gone. Its datapoints stay in their channel.")
            % {"device_id": device.device_id},
        )
        return redirect("devices")
    question = _(
        "This deletes the device %(device_id)s. Datapoints that are stored stay in"
        " their channel. Its held messages go with it: %(held)s. If it sends again, it"
        " comes back as a new device."
    ) % {"device_id": device.device_id, "held": held}
    texts = {"title": _("Delete device"), "question": question, "action": _("Delete device")}
    context = SECTION | texts | {"form": forms.Form(), "back": reverse("device", args=[pk])}
    return render(request, "console/confirm.html", context)


def map_to(request: ConsoleRequest, pk: int) -> HttpResponse:
    """Maps or unmaps the device, and enables it if asked to. GET shows the form as a page of its own."""
    device = get_device(request, pk)
    form = MapForm(request.POST or None, account=request.account)
    channels = Channel.objects.for_account(request.account)
    if form.is_valid():
        to, number = form.cleaned_data["to"], form.cleaned_data["number"]
        changes: dict[str, Any] = {"enabled": True} if form.cleaned_data["enable"] else {}
        try:
            if to == MapForm.NEW:
                number = channels.free_number() if number is None else number
                device = map_to_new_channel(device, number, changes)
            else:
                changes["mapped_channel"] = form.cleaned_data["channel"]
                device = configure_device(device, changes)
        except ContractError as refused:
            form.add_error("number" if to == MapForm.NEW else "channel", refused.detail)
        else:
            name, channel = device.device_id, device.mapped_channel
            if channel is None:
                messages.success(
                    request, _("Device %(name)s is unmapped: what it sends next is held.") % {"name": name}
                )
            elif device.enabled:
                messages.success(
                    request,
                    _("What %(name)s sends is stored in channel %(number)s.")
                    % {"name": name, "number": channel.number},
                )
            else:
                text = _("Device %(name)s is mapped to channel %(number)s. It is not enabled.") % {
                    "name": name,
                    "number": channel.number,
                }
                messages.success(request, text)
            return back(request, reverse("device", args=[pk]))
    context = {
        "device": device,
        "form": form,
        "channels": suggested(request),
        "number": channels.free_number(),
        "next": request.POST.get("next", ""),
    }
    return render(request, "console/device/map.html", SECTION | context)


@require_POST
def switch(request: ConsoleRequest, pk: int, on: bool) -> HttpResponse:
    try:
        device = configure_device(get_device(request, pk), {"enabled": on})
    except ContractError as refused:
        if refused.code != "QUOTA_EXCEEDED":
            raise
        messages.error(request, refused.detail)
    else:
        messages.success(
            request,
            (_("Device %(name)s is enabled.") if on else _("Device %(name)s is disabled."))
            % {"name": device.device_id},
        )
    return back(request, reverse("device", args=[pk]))


def get_device(request: ConsoleRequest, pk: int) -> Any:
    """With `last_seen` and `messages`, which are None for a device that was never heard."""
    devices = Device.objects.for_account(request.account).with_last_seen()
    with_messages = devices.annotate(messages=F("activity__messages")).select_related("mapped_channel")
    return get_object_or_404(with_messages, pk=pk)


def suggested(request: ConsoleRequest) -> Any:
    return Channel.objects.for_account(request.account).only("number", "name")[:SUGGESTED]


def back(request: ConsoleRequest, otherwise: str) -> HttpResponse:
    """To the page that the form stood on, if it said so."""
    return redirect(own_path(request, request.POST.get("next", "")) or otherwise)
