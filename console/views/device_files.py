"""Devices as CSV: in, with a look at what it would do, and out."""

from collections.abc import Collection, Iterable
from itertools import chain

from django.contrib import messages
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from console import left_held
from console.device_filter import filter_from_query
from console.forms.devices_import import ImportForm
from console.request import ConsoleRequest
from console.views.devices import SECTION
from console.vocabulary import counted
from thingscale.devices.fields import DESCRIPTION, FACTS, TEXTS
from thingscale.lib import csv_file
from thingscale.provisioning import device_csv
from thingscale.provisioning.actions import import_devices
from thingscale.provisioning.device_csv import Fault, Report

SHOWN_ERRORS = 100
SHOWN_CHANNELS = 20  # that would be made
EDITABLE = 64 * 1024  # bytes of a file with errors that are put into the page to be mended there
EXAMPLES = (
    ("sensor-001", DESCRIPTION.example, "true", "", *(fact.example for fact in FACTS)),
    ("sensor-002", "Freezer, right", "true", "", *(fact.example for fact in FACTS)),
)


def import_csv(request: ConsoleRequest) -> HttpResponse:
    """First a look: nothing is written. Then, with the same table checked again, all or nothing. If it would
    now make a channel that was not shown, another look."""
    form = ImportForm(request.POST or None, request.FILES or None, account=request.account)
    if not form.is_valid():
        return _page(request, form)
    given, seen = form.cleaned_data["table"], form.cleaned_data["seen"]
    report = _report(request, given, seen)
    if report.written:
        done = _("Imported: %(devices)s made, %(updated)s changed.") % {
            "devices": counted(report.created, "device"),
            "updated": f"{report.updated:,}",
        }
        if report.channels:
            done += " " + _("%(channels)s made.") % {"channels": counted(len(report.channels), "channel")}
        messages.success(request, done)
        left_held.warn(request)
        return redirect("devices")
    carried = None if report.errors else form.pack(given, report.channels)
    if carried is None and not report.errors:
        report = report._replace(errors=[Fault(1, "", _("The table is too large: import it in parts."))])
    text = given.decode("utf-8-sig", errors="replace") if len(given) <= EDITABLE else ""
    return _page(request, ImportForm(account=request.account, initial={"text": text}), report, carried)


def _report(request: ConsoleRequest, given: bytes, seen: Collection[str] | None) -> Report:
    try:
        rows = csv_file.read(given, device_csv.COLUMNS, device_csv.KEY)
    except csv_file.Unreadable as fault:
        return Report(0, 0, [Fault(fault.line, "", fault.message)])
    if not rows:
        return Report(0, 0, [Fault(1, "", _("There is no device in it: a line each, below the first one."))])
    return import_devices(request.account, rows, dry_run=seen is None, seen=seen)


def _page(
    request: ConsoleRequest, form: ImportForm, report: Report | None = None, carried: str | None = None
) -> HttpResponse:
    context: dict[str, object] = {
        "form": form,
        "report": report,
        "carried": carried,
        "texts": TEXTS,
        "max_rows": csv_file.MAX_ROWS,
        "max_mb": csv_file.MAX_BYTES // 2**20,
    }
    if report:
        context |= {
            "makes": report.channels[:SHOWN_CHANNELS],
            "makes_count": len(report.channels),
            "channels_beyond": len(report.channels) - SHOWN_CHANNELS,
        }
        context |= {"errors": report.errors[:SHOWN_ERRORS], "beyond": len(report.errors) - SHOWN_ERRORS}
    return render(request, "console/device/import.html", SECTION | context)


def export_csv(request: ConsoleRequest) -> StreamingHttpResponse:
    rows = device_csv.export_rows(filter_from_query(request.GET).devices(request.account))
    return _download(f"devices-{timezone.localdate():%Y-%m-%d}.csv", rows)


def example_csv(request: ConsoleRequest) -> StreamingHttpResponse:
    return _download("devices-example.csv", EXAMPLES)


def _download(name: str, rows: Iterable[tuple[str, ...]]) -> StreamingHttpResponse:
    lines = csv_file.write(chain([device_csv.COLUMNS], rows))
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8", headers=headers)
