"""What was sent to whom, and what the receiver answered."""

from django.http import HttpResponse
from django.shortcuts import render

from console.paging import PAGE_SIZE, page
from console.request import ConsoleRequest
from console.views.alerts import number_of
from console.views.events import SECTION
from thingscale.events.models import ContactPoint, Delivery


def index(request: ConsoleRequest) -> HttpResponse:
    """All, or those in a state, of an event, to a contact point."""
    found = Delivery.objects.for_account(request.account).select_related("event", "contact_point", "incident")
    status = request.GET.get("status", "")
    if status in Delivery.Status.values:
        found = found.filter(status=status)
    if event := request.GET.get("event", ""):
        found = found.filter(event__number=number_of(event))
    contact = request.GET.get("contact", "")
    if contact:
        found = found.filter(contact_point=number_of(contact))
    shown = page(found, "-created_at", PAGE_SIZE, request.GET.get("page", ""))
    points = ContactPoint.objects.for_account(request.account)
    context = {
        "page": shown,
        "goes_on": any(row.status == Delivery.Status.WAITING and not row.tries for row in shown.rows),
        "statuses": Delivery.Status.values,
        "status": status,
        "event": event,
        "contact": points.filter(pk=number_of(contact)).first() if contact else None,
        "filtered": bool(status or event or contact),
    }
    return render(request, "console/delivery/list.html", SECTION | context)
