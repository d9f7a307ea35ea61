"""/v2/event (docs/contract.md, Events)."""

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.http.response import HttpResponseBase
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.arrays import array
from api.v2.serializers import Text
from api.viewsets import MAX_INTEGER, AccountViewSet, ok, path_number
from thingscale.accounts.tenancy import in_pages
from thingscale.events.actions import create_event, delete_event, update_event
from thingscale.events.models import Event
from thingscale.lib.errors import ContractError
from thingscale.streams.models import Channel

YEAR = 366 * 86_400  # seconds
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_is_url = URLValidator(schemes=["http", "https"])


class EventSerializer(serializers.Serializer[Event]):
    """Context: `account`, `actor`. The validated data has the names of the model."""

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
    min_interval = serializers.IntegerField(required=False, min_value=0, max_value=YEAR)

    def validate_mapped_ch(self, number: int | None) -> int | None:
        """The channel's primary key."""
        if number is None:
            return None
        channel = Channel.objects.for_account(self.context["account"]).filter(number=number).first()
        if channel is None:
            raise serializers.ValidationError("You have no channel with this number: create it first.")
        return channel.pk

    def validate_post_url(self, url: str) -> str:
        try:
            if url:
                _is_url(url)
        except ValidationError:
            raise serializers.ValidationError("Give an address such as https://example.com/hook.") from None
        return url

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Looks at the event as it would become, since an operator and a threshold that do not fit would
        never act."""
        event = self.instance or Event()
        merged = {name: attrs.get(name, getattr(event, name)) for name in ("operator", "threshold")}
        threshold = merged["threshold"].strip()
        if merged["operator"] not in {"=", "!="} and threshold and not _NUMBER.fullmatch(threshold):
            raise serializers.ValidationError(
                {"threshold": [f"Must be a number with the operator {merged['operator']}."]}
            )
        return attrs

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
        }


class EventViewSet(AccountViewSet[Event]):
    queryset = Event.objects.select_related("mapped_channel").order_by("number")
    serializer_class = EventSerializer
    missing = ("NO_EVENT", "You have no event with this id: create it first.")

    def list(self, request: Request) -> HttpResponseBase:
        pages = in_pages(self.get_queryset(), "number", 500)
        shape = self.get_serializer()
        return array(shape.to_representation(event) for page in pages for event in page)

    def retrieve(self, request: Request, number: str) -> Response:
        return Response([self.get_serializer(self.event(number)).data])

    def create(self, request: Request) -> Response:
        event = create_event(self.request.account, self.changes(required=False))
        return Response({"event_id": event.number}, 201)

    def update(self, request: Request, number: str) -> Response:
        event = self.event(number)
        update_event(event, self.changes(instance=event))
        return ok()

    def destroy(self, request: Request, number: str) -> Response:
        delete_event(self.event(number))
        return ok()

    def event(self, number: str) -> Event:
        key = path_number(number)
        if key is None:
            raise ContractError(*self.missing)
        return self.find(number=key)
