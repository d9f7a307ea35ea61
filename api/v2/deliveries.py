"""/v2/delivery: what was sent to whom, and what the receiver answered."""

from typing import Any
from uuid import UUID

from django.http.response import HttpResponseBase
from rest_framework.request import Request

from api import options
from api.arrays import array
from api.history import newest_first
from api.viewsets import MAX_INTEGER, AccountViewSet, stream_time
from thingscale.events.models import Delivery
from thingscale.lib.errors import ContractError


class DeliveryViewSet(AccountViewSet[Delivery]):
    queryset = Delivery.objects.all()
    missing = ("NO_DELIVERY", "You have no delivery with this id.")

    def list(self, request: Request) -> HttpResponseBase:
        rows = self.get_queryset().select_related("event")
        if options.text(request, "EVENTID"):
            rows = rows.filter(event__number=options.whole_number(request, "EVENTID", 0, 0, MAX_INTEGER))
        if status := options.choice(request, "STATE", Delivery.Status.values, ""):
            rows = rows.filter(status=status)
        return array(map(self.shown, newest_first(self.request, rows, "created_at", self.delivery)))

    def delivery(self, text: str) -> Delivery:
        try:
            return self.find(pk=UUID(text))
        except ValueError:
            raise ContractError(*self.missing) from None

    def shown(self, delivery: Delivery) -> dict[str, Any]:
        actor = self.request.actor
        waiting = delivery.status == Delivery.Status.WAITING
        return {
            "delivery_id": str(delivery.pk),
            "event_id": delivery.event.number if delivery.event else None,
            "incident_id": delivery.incident_id,
            "contact_id": delivery.contact_point_id,
            "transport": delivery.transport,
            "about": delivery.about,
            "state": delivery.status,
            "receiver": delivery.receiver,
            "created_at": stream_time(delivery.created_at, actor),
            "next_try_at": stream_time(delivery.due_at, actor) if waiting else None,
            "done_at": stream_time(delivery.done_at, actor),
            "tries": delivery.tries,
            "answer": delivery.answer,
        }
