"""The account at a glance."""

from django.db.models import Max, Sum
from django.http import HttpResponse
from django.shortcuts import redirect, render

from console import minute_bars_svg
from console.request import ConsoleRequest
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
    account = request.account
    if recent_messages.nothing_received(account):
        return redirect("start")
    seen = overview(account, clock.now())
    used = used_storage(account)
    percent = 100 * used.bytes / account.max_storage if account.max_storage else 100
    latest = Latest.objects.shown().filter(channel__user=account.pk)
    named = latest.values_list("channel__number", "channel__name")
    heard = named.annotate(at=Max("at"), n=Sum("count")).order_by("-at")  # the channels with the newest data
    context = {
        "section": "home",
        "seen": seen,
        "hour": minute_bars_svg.draw(seen.per_minute),
        "storage": {"datapoints": used.datapoints, "bytes": used.bytes, "percent": percent},
        "waiting": Device.objects.for_account(account).new().order_by("-pk")[:SHOWN],
        "rejected": recent_messages.rejected(account, SHOWN),
        "heard": heard[:SHOWN],
    }
    firing = newest_firing(account, FIRING_SHOWN + 1)
    context |= {"firing": firing[:FIRING_SHOWN], "more_firing": len(firing) > FIRING_SHOWN}
    if len(firing) <= FIRING_SHOWN:
        context["firing_count"] = len(firing)
    kinds = set(Event.objects.for_account(account).order_by().values_list("kind", "enabled").distinct())
    context |= {"has_events": bool(kinds), "watches_silence": (Event.Kind.SILENCE, True) in kinds}
    if seen.new:
        context["free_number"] = Channel.objects.for_account(account).free_number()
    return render(request, "console/home/page.html", context)
