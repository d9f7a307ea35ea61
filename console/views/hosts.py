"""Hosts: devices that are servers. Their list, by what hurts, and the page of each."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.dateparse import parse_datetime
from django.utils.http import quote_etag
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from console import time_range
from console.paging import PAGE_SIZE, Page, page
from console.request import ConsoleRequest, is_fragment
from console.templatetags.alerts import event_name
from console.templatetags.console import moment
from thingscale.events.chart_marks import chart_marks
from thingscale.events.models import Incident
from thingscale.events.overview import firing_of, worst_firing
from thingscale.hosts import charts, defaults, look
from thingscale.hosts.details import details
from thingscale.hosts.metrics import NAMES, POINTS, Level
from thingscale.hosts.models import Host
from thingscale.lib.clock import to_us
from thingscale.lib.errors import ContractError
from thingscale.lib.ids import ChannelPk
from thingscale.streams.charts import version
from thingscale.streams.models import Channel
from thingscale.streams.queries import Selection

SECTION = {"section": "hosts"}
ORDERS = {
    "-pain": _("What hurts most"),
    "-cpu": _("CPU, busiest first"),
    "-memory": _("Memory, fullest first"),
    "-disk": _("Disk, fullest first"),
    "-load": _("Load, highest first"),
    "uptime": _("Uptime, restarted last first"),
    "last_seen": _("Last heard, longest ago first"),
    "name": _("Name, A to Z"),
}
FILTERS = {
    "all": Q(),
    "trouble": Q(pain__gte=POINTS[Level.BAD]),
    "silent": Q(silent=True),
}
RANGES = ("15m", "1h", "6h", "24h", "7d", "30d")
USUAL = "1h"
USUAL_PIXELS = 1000
INCIDENTS = 5
MOST_FACTS = 24
FACTS = {
    "os": _("System"),
    "kernel": _("Kernel"),
    "architecture": _("Architecture"),
    "cpu": _("Processor"),
    "cores": _("Cores"),
    "memory": _("Memory"),
    "virtualization": _("Virtualization"),
    "hostname": _("Host name"),
    "address": _("Address"),
    "boot": _("Started"),
    "agent": _("Agent"),
    "python": "Python",
}
TITLES = {"all": _("All"), "trouble": _("In trouble"), "silent": _("Silent")}


def index(request: ConsoleRequest) -> HttpResponse:
    hosts = Host.objects.for_account(request.account).with_device()
    text, chosen = request.GET.get("q", "").strip(), request.GET.get("filter", "")
    order = request.GET.get("sort", "")
    order = order if order in ORDERS else "-pain"
    chosen = chosen if chosen in FILTERS else "all"
    found = hosts.search(text) if text else hosts
    counts: Mapping[str, int] = found.aggregate(
        **{f"in_{name}": Count("pk", filter=condition) for name, condition in FILTERS.items()}
    )
    shown: Page[Any] = page(found.filter(FILTERS[chosen]), order, PAGE_SIZE, request.GET.get("page", ""))
    look.refresh(shown.rows)
    firing = worst_firing(request.account, "device", [host.pk for host in shown.rows])
    for host in shown.rows:
        host.firing = firing.get(host.pk)
        host.about = _about(host)
    context = {
        "page": shown,
        "q": text,
        "filter": chosen,
        "sort": order,
        "orders": ORDERS,
        "tabs": [(name, TITLES[name], counts[f"in_{name}"]) for name in FILTERS],
        "hosts": counts["in_all"],
    }
    fragment = is_fragment(request)
    template = "console/host/_table.html" if fragment else "console/host/list.html"
    response = render(request, template, SECTION | context)
    patch_vary_headers(response, ["HX-Request"])
    return response


def detail(request: ConsoleRequest, pk: int) -> HttpResponse:
    host = _host(request, pk)
    newest = look.newest_of(host)
    device = host.device
    host.about = _about(host)
    count, firing = firing_of(request.account, "device", device.pk)
    incidents = Incident.objects.for_account(request.account).filter(device=device.pk)
    facts = device.state if isinstance(device.state, dict) else {}
    preset = request.GET.get("range", "")
    context = {
        "host": host,
        "device": device,
        "names": list(defaults.Name),
        "cores": round(host.cores or 0),
        "sender": gettext(NAMES.get(host.sender, "")),
        "firing": firing,
        "firing_count": count,
        "incidents": incidents.select_related("event").order_by("-started_at")[:INCIDENTS],
        "details": details(newest.values, newest.sample),
        "facts": _facts(newest.facts or facts),
        "presets": [(name, time_range.PRESETS[name][0]) for name in RANGES],
        "range": preset if preset in RANGES else USUAL,
    }
    return render(request, "console/host/detail.html", SECTION | context)


def chart(request: ConsoleRequest, pk: int) -> HttpResponse:
    """JSON for chart.js. 304 if what is on the page is still true."""
    host = _host(request, pk)
    channel = host.device.mapped_channel
    query = request.GET.copy()
    query.setdefault("range", USUAL)
    shown = time_range.read(query, request.actor.zone, None, None)
    pixels = request.GET.get("pixels", "")
    width = int(pixels) if pixels.isdecimal() and len(pixels) < 6 else USUAL_PIXELS
    if channel is None:
        return JsonResponse(_answer(shown.start, shown.end, [], {"events": [], "incidents": []}))
    marks = _marks(request, channel, host, shown)
    selection = Selection(ChannelPk(channel.pk), request.actor.locale, shown.start, shown.end)
    etag = quote_etag(version(selection, width, marks))
    unchanged = get_conditional_response(request, etag)
    if unchanged is not None:
        return unchanged
    try:
        series = charts.chart(ChannelPk(channel.pk), shown.start, shown.end, width)
    except ContractError as refused:
        return JsonResponse({"error": refused.code, "detail": refused.detail}, status=400)
    answer = JsonResponse(_answer(shown.start, shown.end, series, marks))
    answer.headers["ETag"] = etag
    return answer


def events(request: ConsoleRequest, pk: int | None = None) -> HttpResponse:
    """The usual events of a host, or of all: which are there, and a button that makes the others."""
    host = None if pk is None else _host(request, pk)
    hosts = [host] if host else list(Host.objects.for_account(request.account).with_device())
    back_to = reverse("host", args=[pk]) if pk is not None else reverse("hosts")
    if request.method == "POST":
        names = [name for name in defaults.Name if name in request.POST.getlist("name")]
        made = defaults.make(request.account, hosts, names)
        messages.success(request, _told(made))
        if made.left_out:
            most = request.account.max_events
            messages.warning(
                request,
                gettext("There is no room for %(count)s more: you can have %(most)s events.")
                % {"count": f"{made.left_out:,}", "most": f"{most:,}"},
            )
        return redirect(back_to)
    missing = defaults.missing(request.account, hosts)
    offered = defaults.offered(hosts)
    context = {
        "host": host,
        "hosts": len(hosts),
        "back": back_to,
        "events": [
            {
                "name": name,
                "title": default.title,
                "missing": len(missing[name]),
                "offered": offered[name],
            }
            for name, default in defaults.DEFAULTS.items()
        ],
        "anything": any(missing.values()),
    }
    return render(request, "console/host/events.html", SECTION | context)


def _told(made: defaults.Made) -> str:
    if not made.made:
        return gettext("All of these events are there already.")
    return ngettext("%(count)d event was made.", "%(count)d events were made.", made.made) % {
        "count": made.made
    }


def _answer(
    start: datetime, end: datetime, series: list[charts.Series], marks: dict[str, Any]
) -> dict[str, Any]:
    return {
        "start": to_us(start) // 1000,
        "end": to_us(end) // 1000,
        "left_out": 0,
        "series": [each._asdict() for each in series],
        "marks": marks,
    }


def _marks(
    request: ConsoleRequest, channel: Channel, host: Host, shown: time_range.TimeRange
) -> dict[str, Any]:
    """As the charts of a channel have them; an event is drawn in the panel that its source is about."""
    found = chart_marks(request.account, ChannelPk(channel.pk), shown.start, shown.end)
    tags = look.newest_of(host).tags if found.events else ()
    about = [charts.panel_of_source(each.key, tags) for each in found.events]
    place = {each.event.number: place for place, each in enumerate(found.events)}
    events = [
        {
            "name": event_name(each.event),
            "url": reverse("event", args=[each.event.number]),
            "panel": panel,
            "kind": each.event.kind,
            "operator": each.event.operator,
            "severity": each.event.severity,
            "lines": each.lines if exact else [],
            "clear": each.clear if exact else [],
        }
        for each, (panel, exact) in zip(found.events, about, strict=True)
    ]
    incidents = [span._asdict() | {"event": place[span.number]} for span in found.incidents]
    return {"events": events, "incidents": incidents}


def _about(host: Any) -> str:
    """What it runs on, else who measures it."""
    system = host.device.state.get("os") if isinstance(host.device.state, dict) else None
    return system if isinstance(system, str) else gettext(NAMES.get(host.sender, ""))


def _facts(found: dict[str, Any]) -> list[tuple[Any, str]]:
    """Those that we know, in an order of ours, and then some others."""
    known = {name: found[name] for name in FACTS if name in found}
    shown = []
    for name, value in list((known | found).items())[:MOST_FACTS]:
        if name == "memory" and type(value) in {int, float}:
            shown.append((FACTS[name], filesizeformat(value)))
        elif name == "boot" and (at := _time(value)):
            shown.append((FACTS[name], moment(at)))
        elif isinstance(value, str | int | float):
            shown.append((FACTS.get(name, name), str(value)))
    return shown


def _time(value: Any) -> datetime | None:
    """Of a fact, if it is one with a zone."""
    try:
        at = parse_datetime(str(value))
    except ValueError:
        return None
    return at if at and at.tzinfo else None


def _host(request: ConsoleRequest, pk: int) -> Any:
    return get_object_or_404(Host.objects.for_account(request.account).with_device(), pk=pk)
