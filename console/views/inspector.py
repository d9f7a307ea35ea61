"""Messages, live as they come."""

from django.http import HttpResponse
from django.shortcuts import render

from console.rejection_texts import REASONS, in_words
from console.request import ConsoleRequest
from thingscale.streams import recent_messages
from thingscale.streams.recent_messages import RecentMessage

SHOWN = 30  # of each status, before anything comes live
STATUSES = ("stored", "held", "rejected", "duplicate")


def inspector(request: ConsoleRequest) -> HttpResponse:
    asked = {name: request.GET.get(name, "").strip() for name in ("status", "device", "text")}
    rows = [
        (message, _matches(message, **asked)) for message in recent_messages.newest(request.account, SHOWN)
    ]
    context = {
        "section": "inspector",
        "rows": rows,
        "any": any(shown for _, shown in rows),
        "asked": asked,
        "statuses": STATUSES,
        "reasons": {code: in_words(code) for code in REASONS},
    }
    return render(request, "console/inspector/page.html", context)


def _matches(message: RecentMessage, status: str, device: str, text: str) -> bool:
    """Whether the filter shows it: the same as matches() of inspector.js."""
    searched = f"{message.value} {message.tag or ''} {message.reason or ''} {message.kind}"
    return (
        message.status == (status or message.status)
        and device.lower() in message.device.lower()
        and text.lower() in searched.lower()
    )
