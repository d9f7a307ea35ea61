"""Events that are suggested for a channel, on its pages."""

from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from console.request import ConsoleRequest
from console.views.devices import back
from thingscale.events.actions import dismiss_suggestions
from thingscale.events.suggested import source_of, suggested
from thingscale.streams.models import Channel


def piece(request: ConsoleRequest, number: int) -> HttpResponse:
    """A piece of HTML, which is asked for once the page is there; nothing, if there is nothing to suggest."""
    channel = get_object_or_404(Channel.objects.for_account(request.account), number=number)
    offered = [
        {
            "title": each.title,
            "source": source_of(each),
            "url": f"{reverse('event-new')}?{urlencode({'channel': number} | each.fields)}",
        }
        for each in suggested(request.account, channel)
    ]
    context = {"channel": channel, "offered": offered}
    return render(request, "console/event/_suggestions.html", context)


@require_POST
def dismiss(request: ConsoleRequest, number: int) -> HttpResponse:
    """Those that were shown. With a key that comes later, there may be another one."""
    channel = get_object_or_404(Channel.objects.for_account(request.account), number=number)
    asked = set(request.POST.getlist("source"))
    shown = [source_of(each) for each in suggested(request.account, channel)]
    dismiss_suggestions(request.account, channel, [source for source in shown if source in asked])
    if "HX-Request" in request.headers:
        return HttpResponse()
    return back(request, reverse("stream", args=[number]))
