"""A channel's datapoints: charts, a table, files."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from django.core import signing
from django.http import Http404, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag
from django.utils.translation import gettext as _

from console import time_range
from console.request import ConsoleRequest
from console.templatetags.alerts import event_name
from thingscale.devices.deleted import keys_of
from thingscale.events.chart_marks import ChartMarks, chart_marks
from thingscale.events.overview import firing_of
from thingscale.lib import clock
from thingscale.lib.errors import ContractError
from thingscale.lib.names import may_exist
from thingscale.streams import charts, export
from thingscale.streams.datapoint_table import TableRow, newest_time_until_now, oldest_time, table_page
from thingscale.streams.models import Channel, Tag
from thingscale.streams.queries import LAST, Key, Selection

FILES: dict[str, tuple[str, Callable[[Selection], Iterator[bytes]]]] = {
    "csv": (export.CSV, export.csv),
    "ndjson": (export.LINES, export.lines),
}
ROWS = 25  # of the table, a page
MAX_SOURCES = 1000  # suggested; any number can be typed
MAX_TAGS = 200  # to choose from; any can be typed
USUAL_PIXELS = 1000


def index(request: ConsoleRequest) -> HttpResponse:
    """The channel asked for, else the one that was written to last."""
    number = request.GET.get("channel", "").split(" ")[0]
    if number.isdecimal() and len(number) < 11:
        return redirect("stream", int(number))
    newest = Channel.objects.for_account(request.account).newest_first().first()
    if newest is not None:
        return redirect("stream", newest.number)
    return render(request, "console/stream/empty.html", {"section": "streams"})


def detail(request: ConsoleRequest, number: int) -> HttpResponse:
    channel, shown, selection = _selected(request, number)
    tags = list(Tag.objects.filter(channel=channel)[: MAX_TAGS + 1])
    cursors = signing.Signer(salt="console.streams")  # signed, so nothing in a cursor needs a check
    before: Key | None = None
    with suppress(signing.BadSignature):  # what is no cursor of ours leads to the first page
        before = tuple(cursors.unsign_object(request.GET.get("before", "")))
    rows: list[TableRow] = []
    note = ""
    try:
        rows = table_page(selection, ROWS + 1, before or LAST)
    except ContractError as refused:
        note = refused.detail
    count, firing = firing_of(request.account, "channel", channel.pk)
    context = {
        "section": "streams",
        "firing": firing,
        "firing_count": count,
        "channel": channel,
        "sources": Channel.objects.for_account(request.account).only("number", "name")[:MAX_SOURCES],
        "range": shown,
        "presets": time_range.PRESETS,
        "start": time_range.local(shown.start, request.actor.zone),
        "end": time_range.local(shown.end, request.actor.zone),
        "earlier": shown.shifted(-1).query,
        "later": shown.shifted(1).query,
        "tags": tags[:MAX_TAGS],
        "more_tags": len(tags) > MAX_TAGS,
        "tag": request.GET.get("tag", ""),
        "device": request.GET.get("device", ""),
        "chosen": urlencode({name: text for name in ("tag", "device") if (text := request.GET.get(name))}),
        "rows": rows[:ROWS],
        "note": note,
        "next": cursors.sign_object(rows[ROWS - 1].key) if len(rows) > ROWS else None,
        "before": before,
        # Whether the page moves on by itself: not if its end was asked for.
        "follows": bool(shown.preset) or not request.GET.get("end", "").strip(),
    }
    return render(request, "console/stream/detail.html", context)


def chart(request: ConsoleRequest, number: int) -> HttpResponse:
    """JSON for chart.js, as streams/charts.py and events/chart_marks.py describe it. 304 if the chart on the
    page is still true."""
    channel, shown, selection = _selected(request, number)
    pixels = request.GET.get("pixels", "")
    width = int(pixels) if pixels.isdecimal() and len(pixels) < 6 else USUAL_PIXELS
    tag = request.GET.get("tag", "") or None
    marks = _plain(chart_marks(request.account, channel.pk, shown.start, shown.end, tag))
    version = quote_etag(charts.version(selection, width, marks))
    unchanged = get_conditional_response(request, version)
    if unchanged is not None:
        return unchanged
    try:
        text = charts.chart(selection, width).json(marks=marks)
        answer = HttpResponse(text, content_type="application/json")
        answer.headers["ETag"] = version
        return answer
    except ContractError as refused:
        return JsonResponse({"error": refused.code, "detail": refused.detail}, status=400)


def _plain(marks: ChartMarks) -> dict[str, Any]:
    """For JSON. Incidents name their event by its place."""
    place = {each.event.number: place for place, each in enumerate(marks.events)}
    events = [
        {
            "name": event_name(each.event),
            "url": reverse("event", args=[each.event.number]),
            "key": each.key,
            "kind": each.event.kind,
            "operator": each.event.operator,
            "severity": each.event.severity,
            "lines": each.lines,
            "clear": each.clear,
        }
        for each in marks.events
    ]
    incidents = [span._asdict() | {"event": place[span.number]} for span in marks.incidents]
    return {"events": events, "incidents": incidents}


def download(request: ConsoleRequest, number: int, form: str) -> HttpResponseBase:
    channel, shown, selection = _selected(request, number)
    media_type, written = FILES[form]
    if shown.errors:  # nobody must take another range for the one that was asked for
        return _refused(request, channel, _("No such range"), next(iter(shown.errors.values())))
    try:
        export.check_size(selection, channel.datapoints or 0)
        parts = written(selection)
    except ContractError as refused:
        return _refused(request, channel, _("Too much for one file"), refused.detail)
    answer = StreamingHttpResponse(parts, content_type=export.TYPES[media_type])
    answer["Content-Disposition"] = f'attachment; filename="channel-{number}.{form}"'
    return answer


def _refused(request: ConsoleRequest, channel: Any, title: str, detail: str) -> HttpResponse:
    if not request.accepts("text/html"):
        return JsonResponse({"error": "BAD_PARAMETER", "detail": detail}, status=400)
    context = {"section": "streams", "channel": channel, "title": title, "detail": detail}
    return render(request, "console/stream/refused.html", context, status=400)


def _selected(request: ConsoleRequest, number: int) -> tuple[Any, time_range.TimeRange, Selection]:
    """The channel, the range of time that is asked for, and the datapoints in it, of a tag or a device if one
    is named."""
    channels = Channel.objects.for_account(request.account).with_totals()
    channel: Any = get_object_or_404(channels, number=number)
    newest = channel.last_update
    if newest and newest > clock.now():  # data of the future is shown when its time has come
        newest = newest_time_until_now(channel.pk)
    shown = time_range.read(request.GET, request.actor.zone, oldest_time(channel.pk), newest)
    selection = Selection(channel.pk, request.actor.locale, shown.start, shown.end)
    if name := request.GET.get("tag", ""):
        tag = None if "\0" in name else Tag.objects.filter(channel=channel, name=name).first()
        if tag is None:
            raise Http404
        selection = selection._replace(tag=tag.id)
    if device_id := request.GET.get("device", ""):
        devices = keys_of(request.account, device_id) if may_exist(device_id) else []
        selection = selection._replace(devices=tuple(devices))
    return channel, shown, selection
