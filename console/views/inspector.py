"""What comes, as it comes."""

from django.http import HttpResponse
from django.shortcuts import render

from console.rejection_texts import REASONS
from console.request import UserRequest
from thingscale.streams import recent_messages
from thingscale.streams.recent_messages import Arrival

SHOWN = 30  # of each status, before anything comes live
STATUSES = ("stored", "held", "rejected", "duplicate")


def inspector(request: UserRequest) -> HttpResponse:
    asked = {name: request.GET.get(name, "").strip() for name in ("status", "device", "text")}
    rows = [(arrival, _matches(arrival, asked)) for arrival in recent_messages.newest(request.user, SHOWN)]
    context = {
        "section": "inspector",
        "rows": rows,
        "any": any(shown for _, shown in rows),
        "asked": asked,
        "statuses": STATUSES,
        "reasons": REASONS,
    }
    return render(request, "console/inspector/page.html", context)


def _matches(arrival: Arrival, asked: dict[str, str]) -> bool:
    """As matches() of inspector.js."""
    if asked["status"] and arrival.status != asked["status"]:
        return False
    text = f"{arrival.value} {arrival.tag or ''} {arrival.reason or ''} {arrival.kind}"
    device = asked["device"].lower() in arrival.device.lower()
    return device and asked["text"].lower() in text.lower()
