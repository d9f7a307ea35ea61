"""The account at a glance."""

from typing import Any

from django.db.models import Max, Sum
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_vary_headers

from console import minute_bars_svg
from console.request import ConsoleRequest, is_fragment
from thingscale.accounts.models import Account
from thingscale.devices.models import Device
from thingscale.devices.overview import overview
from thingscale.events.models import Event
from thingscale.events.overview import newest_firing
from thingscale.lib import clock
from thingscale.streams import recent_messages
from thingscale.streams.models import Channel, Latest
from thingscale.streams.usage import used_storage

SHOWN = 6  # of each list
FIRING_SHOWN = 5


def home(request: ConsoleRequest) -> HttpResponse:
    """The whole page, or for htmx what fires; nothing if the open page shows just that."""
    account = request.account
    firing = _firing(account)
    if is_fragment(request):
        if request.headers.get("X-Shown") == firing["version"]:
            return HttpResponse(status=204)
        return render(request, "console/home/_firing.html", firing | {"fragment": True})
    if recent_messages.nothing_received(account):
        return redirect("start")
    seen = overview(account, clock.now())
    used = used_storage(account)
    percent = 100 * used.bytes / account.max_storage if account.max_storage else 100
    latest = Latest.objects.shown().filter(channel__user=account.pk)
    named = latest.values_list("channel__number", "channel__name")
    heard = named.annotate(at=Max("at"), n=Sum("count")).order_by("-at")  # the channels with the newest data
    context = firing | {
        "section": "home",
        "seen": seen,
        "hour": minute_bars_svg.draw(seen.per_minute),
        "storage": {"datapoints": used.datapoints, "bytes": used.bytes, "percent": percent},
        "waiting": Device.objects.for_account(account).new().order_by("-pk")[:SHOWN],
        "rejected": recent_messages.rejected(account, SHOWN),
        "heard": heard[:SHOWN],
    }
    if seen.new:
        context["free_number"] = Channel.objects.for_account(account).free_number()
    response = render(request, "console/home/page.html", context)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _firing(account: Account) -> dict[str, Any]:
    firing = newest_firing(account, FIRING_SHOWN + 1)
    kinds = set(Event.objects.for_account(account).order_by().values_list("kind", "enabled").distinct())
    context = {
        "firing": firing[:FIRING_SHOWN],
        "more_firing": len(firing) > FIRING_SHOWN,
        "has_events": bool(kinds),
        "watches_silence": (Event.Kind.SILENCE, True) in kinds,
        "version": "-".join(str(incident.pk) for incident in firing) or str(bool(kinds)),
    }
    if len(firing) <= FIRING_SHOWN:
        context["firing_count"] = len(firing)
    return context
