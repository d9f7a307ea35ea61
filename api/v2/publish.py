"""/v2/publish/{device_id}: a message to a device."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.viewsets import AccountViewSet, ok
from thingscale.devices.commands import MAX_PAYLOAD, Message, send
from thingscale.devices.models import Command, Device
from thingscale.lib.errors import ContractError
from thingscale.lib.names import is_event_topic, may_exist, valid_topic


class PayloadField(serializers.Field[bytes, Any, Any, Any]):
    """A text that is sent byte for byte. A CharField would trim it, and take a number."""

    def to_internal_value(self, data: Any) -> bytes:
        if not isinstance(data, str):
            raise serializers.ValidationError("has to be a string")
        try:
            payload = data.encode()
        except UnicodeEncodeError:
            raise serializers.ValidationError("has half of a surrogate pair") from None
        if len(payload) > MAX_PAYLOAD:
            raise serializers.ValidationError(f"has to be at most {MAX_PAYLOAD} bytes")
        return payload


class TopicField(serializers.Field[str, Any, Any, Any]):
    """A topic of the account, without its token. Blanks at its ends are part of it."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or not valid_topic(data):
            raise serializers.ValidationError("is no topic: it has 1 to 1024 characters, and no + and #")
        if is_event_topic(data):
            raise serializers.ValidationError("is one of the platform's own")
        return data


class PublishSerializer(serializers.Serializer[Any]):
    payload = PayloadField()
    qos = serializers.ChoiceField([0, 1, 2], default=0)
    retain = serializers.BooleanField(default=False)
    topic = TopicField(default="")


class PublishViewSet(AccountViewSet[Device]):
    queryset = Device.objects.all()
    serializer_class = PublishSerializer
    missing = ("NO_DEVICE", "You have no device with this id: nothing was published.")

    def create(self, request: Request, device_id: str) -> Response:
        if not may_exist(device_id):
            raise ContractError(*self.missing)
        device = self.find(device_id=device_id)
        try:
            message = self.changes()
        except serializers.ValidationError as error:  # the contract has one code for this call's body
            raise ContractError(
                "BAD_JSON_FORMAT",
                'Send {"payload": "text"}, and "qos" (0, 1, 2), "retain" (true, false), "topic" if you like.',
            ) from error
        send(self.request.account, device, Message(**message), Command.By.API)
        return ok()
