"""/v2/intake: doors for programs whose topics or payloads can't be changed (docs/contract.md, Intakes)."""

from typing import Any

import orjson
from django.http.response import HttpResponseBase
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.arrays import array
from api.v2.serializers import Text
from api.viewsets import MAX_INTEGER, AccountViewSet, ok, path_number, stream_time
from thingscale.accounts.models import Actor
from thingscale.intakes.actions import create_intake, delete_intake, remove_key, renew_key, update_intake
from thingscale.intakes.models import Intake, IntakeMessage
from thingscale.lib.clock import from_us
from thingscale.lib.errors import ContractError
from thingscale.lib.excerpts import excerpt


class IntakeSerializer(serializers.Serializer[Intake]):
    """Context: `actor`. What fits together is checked by whoever saves it."""

    preset = Text(40)
    mapping = serializers.JSONField(required=False, allow_null=True)
    options = serializers.JSONField(required=False)
    topic = Text(1024)
    enabled = serializers.BooleanField(required=False)
    rate = serializers.IntegerField(required=False, allow_null=True, max_value=MAX_INTEGER)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        is_new = self.instance is None
        texts = {
            name: serializers.CharField(required=is_new, allow_blank=True) for name in ("name", "format")
        }
        return {**texts, **super().get_fields()}

    def to_representation(self, instance: Intake) -> dict[str, Any]:
        actor = self.context["actor"]
        return {
            "intake_id": instance.number,
            "name": instance.name,
            "format": instance.format,
            "preset": instance.preset,
            "mapping": instance.mapping,
            "options": instance.options,
            "topic": instance.topic,
            "enabled": instance.enabled,
            "key_hint": instance.key_hint,
            "rate": instance.rate,
            "created_at": stream_time(instance.created_at, actor),
            "changed_at": stream_time(instance.changed_at, actor),
        }


class IntakeAccess(AccountViewSet[Intake]):
    """Finds an intake by its number in the path."""

    queryset = Intake.objects.order_by("number")
    serializer_class = IntakeSerializer
    missing = ("NO_INTAKE", "You have no intake with this id: create it first.")

    def intake(self, number: str) -> Intake:
        key = path_number(number)
        if key is None:
            raise ContractError(*self.missing)
        return self.find(number=key)


class IntakeViewSet(IntakeAccess):
    def list(self, request: Request) -> HttpResponseBase:
        return array(map(self.get_serializer().to_representation, self.get_queryset()))

    def retrieve(self, request: Request, number: str) -> Response:
        return Response([self.get_serializer(self.intake(number)).data])

    def create(self, request: Request) -> Response:
        intake, key = create_intake(self.request.account, self.changes())
        return Response({"intake_id": intake.number, "key": key}, 201)

    def update(self, request: Request, number: str) -> Response:
        intake = self.intake(number)
        update_intake(intake, self.changes(instance=intake))
        return ok()

    def destroy(self, request: Request, number: str) -> Response:
        delete_intake(self.intake(number))
        return ok()


class IntakeKeyViewSet(IntakeAccess):
    def create(self, request: Request, number: str) -> Response:
        return Response({"key": renew_key(self.intake(number))}, 201)

    def destroy(self, request: Request, number: str) -> Response:
        remove_key(self.intake(number))
        return ok()


class IntakeMessageViewSet(IntakeAccess):
    def list(self, request: Request, number: str) -> HttpResponseBase:
        messages = IntakeMessage.objects.filter(intake=self.intake(number)).order_by("-id")
        return array(_message(message, self.request.actor) for message in messages)


def _message(message: IntakeMessage, actor: Actor) -> dict[str, Any]:
    return {
        "received_at": stream_time(message.received_at, actor),
        "source": message.source,
        "headers": message.headers,
        "body": excerpt(bytes(message.body)),
        "size": message.size,
        "outcome": message.outcome,
        "reason": message.reason,
        "detail": message.detail,
        "count": message.count,
        "readings": [
            {
                "device_id": reading["device_id"],
                "tag": reading["tag"],
                "value": _value(reading["value"]),
                "at": None if reading["at"] is None else stream_time(from_us(reading["at"]), actor),
            }
            for reading in message.readings
        ],
    }


def _value(text: str) -> Any:
    """A long one was cut, and is text then."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
