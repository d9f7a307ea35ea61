"""Several devices at once: those that are checked, or all that match the list's search and filter."""

from typing import NamedTuple

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console import left_held
from console.device_filter import DeviceFilter, filter_from_query
from console.forms.devices_bulk import ACTIONS, BulkForm
from console.request import ConsoleRequest
from console.views.devices import SECTION, suggested
from console.vocabulary import counted
from thingscale.devices.actions import delete_devices
from thingscale.devices.models import Device
from thingscale.lib.errors import ContractError
from thingscale.provisioning.actions import configure_devices, plan_channel

SHOWN_CHANNELS = 20  # that would be made


class Look(NamedTuple):
    makes: list[str]  # the channels that would be made
    refused: str  # why it can't be done


def bulk(request: ConsoleRequest) -> HttpResponse:
    """Asks first where much is at stake: for a deletion, for devices that the page did not show, and for
    channels that would be made."""
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
        messages.warning(request, _("No device was selected: check some first."))
        return redirect(to_list)
    form = BulkForm(request.POST, count=count)
    sure = bool(request.POST.get("confirmed")) or (form.action_name != "delete" and "all" not in request.POST)
    makes: list[str] = []
    refused = ""
    if form.is_valid():
        try:
            if form.channel_name is not None:
                makes = plan_channel(request.account, chosen, form.channel_name).titles
            if sure and (not makes or request.POST.get("makes") == str(len(makes))):
                return _done(request, form, chosen, makes, to_list)
        except ContractError as error:
            refused = error.detail
    return _ask(request, count, Look(makes, refused), wanted, to_list)


def _done(
    request: ConsoleRequest, form: BulkForm, chosen: QuerySet[Device], makes: list[str], back: str
) -> HttpResponse:
    """Raises ContractError where a limit is in the way, and has done nothing then."""
    if form.action_name == "delete":
        count = delete_devices(request.account, chosen)
    else:
        count = configure_devices(request.account, chosen, form.changes, form.channel_name)
        left_held.warn(request)
    done = ACTIONS[form.action_name].done % {"devices": counted(count, "device"), "number": count}
    if makes:
        made = ngettext("%(count)s channel is made.", "%(count)s channels are made.", len(makes))
        done += " " + made % {"count": f"{len(makes):,}"}
    messages.success(request, done)
    return redirect(back)


def _ask(request: ConsoleRequest, count: int, look: Look, wanted: DeviceFilter, back: str) -> HttpResponse:
    """Shows the form again, with what is wrong in it or with the last question."""
    confirming = request.POST.copy()
    confirming["confirmed"] = "on"
    confirming["makes"] = str(len(look.makes))
    form = BulkForm(confirming, count=count)
    if look.refused:
        form.add_error("channel", look.refused)
    if not request.POST.get("confirmed"):
        form.errors.pop("typed", None)  # nothing could be typed yet
    action, devices = ACTIONS[form.action_name], counted(count, "device")
    context = {
        "form": form,
        "title": f"{action.verb}: {devices}",
        "action": action.verb_devices % {"devices": devices},
        "danger": form.action_name == "delete",
        "warning": action.warning,
        "makes": look.makes[:SHOWN_CHANNELS],
        "makes_count": len(look.makes),
        "beyond": len(look.makes) - SHOWN_CHANNELS,
        "wanted": wanted,
        "count": count,
        "keys": [] if "all" in request.POST else request.POST.getlist("pk"),
        "all": "all" in request.POST,
        "channels": suggested(request),
        "back": back,
    }
    return render(request, "console/device/bulk.html", SECTION | context)
