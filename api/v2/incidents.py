"""/v2/incident: what fires, and what has fired (docs/contract.md, Events)."""

from collections.abc import Sequence
from typing import Any

from django.http.response import HttpResponseBase
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api import options
from api.arrays import array
from api.history import newest_first
from api.viewsets import MAX_INTEGER, AccountViewSet, ok, path_number, stream_time
from thingscale.events.actions import acknowledge
from thingscale.events.messages import current
from thingscale.events.models import Incident
from thingscale.lib.errors import ContractError
from thingscale.streams.models import Channel

STATES = ("open", "closed")


class IncidentSerializer(serializers.Serializer[Incident]):
    """Context: `actor`, and `channels`, their numbers by primary key, to show them."""

    acknowledged = serializers.BooleanField(required=False)

    def validate_acknowledged(self, acknowledged: bool) -> bool:
        assert self.instance
        if not acknowledged and self.instance.acknowledged_at:
            raise serializers.ValidationError("It is acknowledged, which can't be taken back.")
        return acknowledged

    def to_representation(self, instance: Incident) -> dict[str, Any]:
        actor = self.context["actor"]
        return {
            "incident_id": instance.pk,
            "event_id": instance.number,
            "state": "closed" if instance.ended_at else "open",
            "title": instance.title,
            "severity": instance.severity,
            "mapped_ch": self.context["channels"].get(instance.channel),
            "device_id": instance.device_id or None,
            "tag": instance.tag or None,
            "source": instance.source,
            "threshold": instance.threshold,
            "current": current(instance.value),
            "started_at": stream_time(instance.started_at, actor),
            "ended_at": stream_time(instance.ended_at, actor),
            "over": instance.over or None,
            "acknowledged": instance.acknowledged_at is not None,
            "acknowledged_at": stream_time(instance.acknowledged_at, actor),
            "acknowledged_by": instance.acknowledged_by or None,
        }


class IncidentViewSet(AccountViewSet[Incident]):
    queryset = Incident.objects.all()
    serializer_class = IncidentSerializer
    missing = ("NO_INCIDENT", "You have no incident with this id.")

    def list(self, request: Request) -> HttpResponseBase:
        rows = self.get_queryset()
        if options.text(request, "EVENTID"):
            rows = rows.filter(number=options.whole_number(request, "EVENTID", 0, 0, MAX_INTEGER))
        if device_id := options.name_of(request, "DEVICEID"):
            rows = rows.filter(device_id=device_id)
        if state := options.choice(request, "STATE", STATES, ""):
            rows = rows.filter(ended_at__isnull=state == "open")
        return array(self.shown(newest_first(self.request, rows, "started_at", self.incident)))

    def retrieve(self, request: Request, number: str) -> Response:
        return Response(self.shown([self.incident(number)]))

    def update(self, request: Request, number: str) -> Response:
        incident = self.incident(number)
        if self.changes(instance=incident).get("acknowledged"):
            acknowledge(incident, self.request.actor)
        return ok()

    def incident(self, number: str) -> Incident:
        key = path_number(number)
        if key is None:
            raise ContractError(*self.missing)
        return self.find(pk=key)

    def shown(self, incidents: Sequence[Incident]) -> Sequence[dict[str, Any]]:
        keys = {incident.channel for incident in incidents if incident.channel}
        channels = Channel.objects.for_account(self.request.account).filter(pk__in=keys)
        context = {"actor": self.request.actor, "channels": dict(channels.values_list("pk", "number"))}
        shape = IncidentSerializer(context=context)
        return [shape.to_representation(incident) for incident in incidents]
