"""Hosts: devices that are servers. Their list, by what hurts."""

from collections.abc import Mapping
from typing import Any

from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers

from console.paging import PAGE_SIZE, Page, page
from console.request import ConsoleRequest, is_fragment
from thingscale.events.overview import worst_firing
from thingscale.hosts import look
from thingscale.hosts.metrics import NAMES, POINTS, Level
from thingscale.hosts.models import Host

SECTION = {"section": "hosts"}
ORDERS = {
    "-pain": "What hurts most",
    "-cpu": "CPU, busiest first",
    "-memory": "Memory, fullest first",
    "-disk": "Disk, fullest first",
    "-load": "Load, highest first",
    "uptime": "Uptime, restarted last first",
    "last_seen": "Last heard, longest ago first",
    "name": "Name, A to Z",
}
FILTERS = {
    "all": Q(),
    "trouble": Q(pain__gte=POINTS[Level.BAD]),
    "silent": Q(silent=True),
}
TITLES = {"all": "All", "trouble": "In trouble", "silent": "Silent"}


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
        host.sender_name = NAMES.get(host.sender, "")
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
