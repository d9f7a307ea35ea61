"""/v2/event (docs/contract.md, Events)."""

from collections.abc import Sequence
from typing import Any

from django.http.response import HttpResponseBase
from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.arrays import array
from api.v2.serializers import Text, Time
from api.viewsets import MAX_INTEGER, AccountViewSet, ok, path_number, stream_time
from thingscale.accounts.tenancy import in_pages
from thingscale.events.actions import (
    MAX_CONTACT_POINTS,
    create_event,
    delete_event,
    ensure_secret,
    rotate_secret,
    send_test,
    update_event,
)
from thingscale.events.models import ContactPoint, Event
from thingscale.events.overview import not_told, state_in_words, states_of
from thingscale.lib.errors import ContractError
from thingscale.streams.models import Channel


class EventSerializer(serializers.Serializer[Event]):
    """Context: `account`, `actor`, and, to show events, their `states` by primary key, of states_of(), and
    those of not_told(). The validated data has the names of the model. What fits together is checked by
    whoever saves it."""

    mapped_ch = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=MAX_INTEGER, source="mapped_channel_id"
    )
    description = Text(1000)
    notify_type = serializers.ChoiceField(Event.Notify.choices, required=False)
    post_url = Text(2000)
    enabled = serializers.BooleanField(required=False)
    source = Text(1000)  # type: ignore[assignment]  # the contract's word
    operator = serializers.ChoiceField(Event.Operator.choices, required=False)
    threshold = Text(1000)
    repeat = serializers.ChoiceField(Event.Repeat.choices, required=False)
    min_interval = serializers.IntegerField(required=False)
    kind = serializers.ChoiceField(Event.Kind.choices, required=False)
    devices = Text(64)
    clear = Text(1000)
    window = serializers.IntegerField(required=False)
    period = serializers.IntegerField(required=False)
    grace = serializers.IntegerField(required=False)
    no_data_after = serializers.IntegerField(required=False)
    severity = serializers.ChoiceField(Event.Severity.choices, required=False)
    quiet_hours = Text(11)
    muted_until = Time(required=False, allow_null=True)
    channels = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=MAX_INTEGER),
        required=False,
        max_length=MAX_CONTACT_POINTS,
        source="contact_points",
    )

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {**super().get_fields(), "for": serializers.IntegerField(required=False, source="hold")}

    def validate_mapped_ch(self, number: int | None) -> int | None:
        """The channel's primary key."""
        if number is None:
            return None
        channel = Channel.objects.for_account(self.context["account"]).filter(number=number).first()
        if channel is None:
            raise serializers.ValidationError("You have no channel with this number: create it first.")
        return channel.pk

    def validate_channels(self, ids: list[int]) -> list[ContactPoint]:
        contact_points = list(ContactPoint.objects.for_account(self.context["account"]).filter(pk__in=ids))
        if len(contact_points) < len(set(ids)):
            raise serializers.ValidationError("You have no contact with one of these ids: create it first.")
        return contact_points

    def to_representation(self, instance: Event) -> dict[str, Any]:
        return {
            "event_id": instance.number,
            "mapped_ch": instance.mapped_channel.number if instance.mapped_channel else None,
            "description": instance.description,
            "notify_type": instance.notify_type,
            "post_url": instance.post_url,
            "enabled": instance.enabled,
            "source": instance.source,
            "operator": instance.operator,
            "threshold": instance.threshold,
            "repeat": instance.repeat,
            "min_interval": instance.min_interval,
            "kind": instance.kind,
            "devices": instance.devices,
            "for": instance.hold,
            "clear": instance.clear,
            "window": instance.window,
            "period": instance.period,
            "grace": instance.grace,
            "no_data_after": instance.no_data_after,
            "severity": instance.severity,
            "quiet_hours": instance.quiet_hours,
            "muted_until": stream_time(instance.muted_until, self.context["actor"]),
            "channels": sorted(each.contact_point_id for each in instance.eventcontact_set.all()),
            "state": state_in_words(
                self.context["states"][instance.pk], instance.pk not in self.context["not_told"]
            ),
        }


class EventAccess(AccountViewSet[Event]):
    """Finds an event by its number in the path."""

    queryset = (
        Event.objects.select_related("mapped_channel").prefetch_related("eventcontact_set").order_by("number")
    )
    serializer_class = EventSerializer
    missing = ("NO_EVENT", "You have no event with this id: create it first.")

    def event(self, number: str) -> Event:
        key = path_number(number)
        if key is None:
            raise ContractError(*self.missing)
        return self.find(number=key)


class EventViewSet(EventAccess):
    def list(self, request: Request) -> HttpResponseBase:
        pages = in_pages(self.get_queryset(), "number", 500)
        return array(row for page in pages for row in self.shown(page))

    def retrieve(self, request: Request, number: str) -> Response:
        return Response(self.shown([self.event(number)]))

    def create(self, request: Request) -> Response:
        fields = self.changes(required=False)
        contact_points = fields.pop("contact_points", ())
        event = create_event(self.request.account, fields, contact_points)
        return Response({"event_id": event.number}, 201)

    def update(self, request: Request, number: str) -> Response:
        event = self.event(number)
        changes = self.changes(instance=event)
        contact_points = changes.pop("contact_points", None)
        update_event(event, changes, contact_points)
        return ok()

    def destroy(self, request: Request, number: str) -> Response:
        delete_event(self.event(number))
        return ok()

    def shown(self, events: Sequence[Event]) -> Sequence[dict[str, Any]]:
        states = states_of(list(events))
        silent = not_told(list(events), states, timezone.now())
        context = {"actor": self.request.actor, "states": states, "not_told": silent}
        shape = EventSerializer(context=context)
        return [shape.to_representation(event) for event in events]


class EventTestViewSet(EventAccess):
    def create(self, request: Request, number: str) -> Response:
        deliveries = send_test(self.event(number), self.request.actor)
        return Response({"delivery_ids": [str(delivery.pk) for delivery in deliveries]}, 201)


class EventSecretViewSet(EventAccess):
    def retrieve(self, request: Request, number: str) -> Response:
        return Response({"secret": ensure_secret(self.event(number))})

    def create(self, request: Request, number: str) -> Response:
        return Response({"secret": rotate_secret(self.event(number))}, 201)
