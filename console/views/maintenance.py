"""Maintenance windows: while one lasts, nobody is notified of its devices."""

from datetime import timedelta

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from console.forms.maintenance import MaintenanceForm
from console.paging import PAGE_SIZE, page
from console.refused import field_and_sentence
from console.request import ConsoleRequest
from console.views.events import SECTION
from thingscale.events import actions
from thingscale.events.models import MaintenanceWindow
from thingscale.lib import clock
from thingscale.lib.errors import ContractError


def index(request: ConsoleRequest) -> HttpResponse:
    now = clock.now()
    usual = {"starts_at": now, "ends_at": now + timedelta(hours=1), "devices": request.GET.get("devices", "")}
    form = MaintenanceForm(request.POST or None, initial=usual)
    if form.is_valid():
        try:
            window = actions.create_maintenance_window(request.account, **form.cleaned_data)
        except ContractError as refused:
            name, sentence = field_and_sentence(refused)
            form.add_error(name if name in form.fields else None, sentence)
        else:
            until = f"{timezone.localtime(window.ends_at):%Y-%m-%d %H:%M}"
            messages.success(
                request,
                _("Nobody is notified of %(devices)s until %(until)s.")
                % {"devices": window.devices, "until": until},
            )
            return redirect("maintenance")
    windows = MaintenanceWindow.objects.for_account(request.account)
    context = {
        "form": form,
        "page": page(windows, "-ends_at", PAGE_SIZE, request.GET.get("page", "")),
        "now": now,
    }
    return render(request, "console/maintenance/page.html", SECTION | context)


@require_POST
def end(request: ConsoleRequest, pk: int) -> HttpResponse:
    window = get_object_or_404(MaintenanceWindow.objects.for_account(request.account), pk=pk)
    actions.end_maintenance_window(window)
    messages.success(request, _("The maintenance of %(devices)s is over.") % {"devices": window.devices})
    return redirect("maintenance")
