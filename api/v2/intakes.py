"""/v2/intake: doors for programs whose topics or payloads can't be changed (docs/contract.md, Intakes)."""

from base64 import b64decode
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
from thingscale.intakes.decoding import readings_of
from thingscale.intakes.formats.readings import BadBody
from thingscale.intakes.models import Intake, IntakeMessage, topic_fields
from thingscale.intakes.validation import MAX_TOPICS, check_intake
from thingscale.lib.clock import from_us, now_us
from thingscale.lib.errors import ContractError
from thingscale.lib.excerpts import excerpt

TRIED = 100  # readings of a payload that are shown


class IntakeSerializer(serializers.Serializer[Intake]):
    """Context: `actor`. What fits together is checked by whoever saves it."""

    preset = Text(40)
    mapping = serializers.JSONField(required=False, allow_null=True)
    options = serializers.JSONField(required=False)
    topic = Text(1024)  # the first of `topics`, of which clients of earlier releases know no more
    topics = serializers.ListField(child=Text(1024), required=False, max_length=MAX_TOPICS)
    enabled = serializers.BooleanField(required=False)
    rate = serializers.IntegerField(required=False, allow_null=True, max_value=MAX_INTEGER)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        is_new = self.instance is None
        texts = {
            name: serializers.CharField(required=is_new, allow_blank=True) for name in ("name", "format")
        }
        return {**texts, **super().get_fields()}

    def validate(self, fields: dict[str, Any]) -> dict[str, Any]:
        """`topic` alone is the only filter. Where both come and don't agree, the one counts that is not as it
        was, so that what a GET returned can be sent back with either of them changed."""
        topic, topics = fields.pop("topic", None), fields.pop("topics", None)
        before = self.instance.topics if self.instance else []
        if topic is None and topics is None:
            return fields
        if topics is None or (topic is not None and topic != _first(topics) and topics == before):
            topics = [topic] if topic else []
        elif topic not in {None, _first(topics), _first(before)}:
            raise serializers.ValidationError({"topics": ["Must begin with topic: give one of the two."]})
        if "" in topics:
            raise serializers.ValidationError({"topics": ["Must have no empty one."]})
        return fields | topic_fields(topics)

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
            "topics": instance.topics,
            "enabled": instance.enabled,
            "key_hint": instance.key_hint,
            "rate": instance.rate,
            "created_at": stream_time(instance.created_at, actor),
            "changed_at": stream_time(instance.changed_at, actor),
        }


def _first(topics: list[str]) -> str:
    return topics[0] if topics else ""


class TrySerializer(serializers.Serializer[Intake]):
    """A payload, and the intake that it is for: one that there is, with other fields, or one that there is
    not."""

    intake_id = serializers.IntegerField(required=False, min_value=0, max_value=MAX_INTEGER)
    preset = Text(40)
    mapping = serializers.JSONField(required=False, allow_null=True)
    options = serializers.JSONField(required=False)
    topic = Text(1024)  # of the message
    headers = serializers.DictField(child=Text(8192), required=False)
    body = serializers.CharField(required=False, allow_blank=True, trim_whitespace=False)
    body_base64 = serializers.CharField(required=False, allow_blank=True)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {**super().get_fields(), "format": Text(10)}

    def validate_body_base64(self, text: str) -> bytes:
        try:
            return b64decode(text, validate=True)
        except ValueError:
            raise serializers.ValidationError("This is not base64.") from None


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


class IntakeTryViewSet(IntakeAccess):
    def create(self, request: Request) -> Response:
        asked = self.changes(shape=TrySerializer)
        number = asked.pop("intake_id", None)
        intake = Intake(name="try") if number is None else self.find(number=number)
        headers = {name.lower(): text for name, text in asked.pop("headers", {}).items()}
        topic, text = asked.pop("topic", None), asked.pop("body", "")
        body = asked.pop("body_base64", None) or text.encode()
        for name, value in asked.items():
            setattr(intake, name, value)
        check_intake(intake)
        try:
            readings = readings_of(intake, topic or None, headers, body, now_us())
        except BadBody as bad:
            return Response({"reason": bad.reason.value, "detail": bad.detail, "count": 0, "readings": []})
        shown = [
            _reading(
                reading.device_id, reading.tag, orjson.loads(reading.value), reading.at, self.request.actor
            )
            for reading in readings[:TRIED]
        ]
        return Response({"reason": None, "detail": "", "count": len(readings), "readings": shown})


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
        "left_out": message.left_out,
        "readings": [
            _reading(reading["device_id"], reading["tag"], _value(reading["value"]), reading["at"], actor)
            for reading in message.readings
        ],
    }


def _reading(device_id: str, tag: str | None, value: Any, at: int | None, actor: Actor) -> dict[str, Any]:
    moment = None if at is None else stream_time(from_us(at), actor)
    return {"device_id": device_id, "tag": tag, "value": value, "at": moment}


def _value(text: str) -> Any:
    """A long one was cut, and is text then."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
