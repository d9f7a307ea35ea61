"""The account at a glance."""

from django.db.models import Max, Sum
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from console import minute_bars_svg
from console.request import UserRequest
from thingscale.accounts.models import User
from thingscale.devices.models import SILENT_AFTER, Device
from thingscale.devices.overview import overview
from thingscale.streams import recent_messages
from thingscale.streams.models import Channel, Latest
from thingscale.streams.usage import used_storage

SHOWN = 6  # of each list


def home(request: UserRequest) -> HttpResponse:
    user = request.user
    if recent_messages.none_yet(user):
        return redirect("start")
    seen = overview(user, timezone.now())
    context = {
        "section": "home",
        "seen": seen,
        "silent_minutes": int(SILENT_AFTER.total_seconds() // 60),
        "hour": minute_bars_svg.draw(seen.per_minute),
        "storage": _storage(user),
        "waiting": Device.objects.for_user(user).new().order_by("-pk")[:SHOWN],
        "rejected": recent_messages.rejected(user, SHOWN),
        "heard": _heard(user),
    }
    if seen.new:
        context["free_number"] = Channel.objects.for_user(user).free_number()
    return render(request, "console/home/page.html", context)


def _storage(user: User) -> dict[str, float]:
    used = used_storage(user)
    percent = 100 * used.bytes / user.max_storage if user.max_storage else 100
    return {"datapoints": used.datapoints, "bytes": used.bytes, "percent": percent}


def _heard(user: User) -> list[tuple[int, str, object, int]]:
    """(number, name, time, datapoints) of the channels with the newest datapoints."""
    latest = Latest.objects.shown().filter(channel__user=user)
    named = latest.values_list("channel__number", "channel__name")
    return list(named.annotate(at=Max("at"), n=Sum("count")).order_by("-at")[:SHOWN])
