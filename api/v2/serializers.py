"""Shapes of REST v2 (docs/contract.md). `to_representation` is what a GET shows; fields are what a POST or
PUT takes.

Fields that are read-only or unknown are ignored, so that what a GET returned can be sent back.
"""

from datetime import datetime
from typing import Any

from rest_framework import serializers

from api.viewsets import MAX_INTEGER, NO_CHANNEL, stream_time
from thingscale.accounts.credentials import credentials_seen_by
from thingscale.accounts.models import User
from thingscale.accounts.time_zones import time_zones
from thingscale.devices.fields import DESCRIPTION, FACTS
from thingscale.devices.models import Device
from thingscale.lib.clock import FORMS, parse_start, with_colon
from thingscale.lib.errors import ContractError
from thingscale.lib.names import TAG_RULE, bad_tag
from thingscale.lib.plurals import counted
from thingscale.streams.models import Channel


class Text(serializers.CharField):
    """A text that is kept as it is sent, and may be empty."""

    def __init__(self, max_length: int, **options: Any) -> None:
        super().__init__(
            max_length=max_length, required=False, allow_blank=True, trim_whitespace=False, **options
        )


class Time(serializers.Field[datetime, Any, Any, Any]):
    """A moment, in any of the forms that a range takes. Context: `actor`."""

    def to_internal_value(self, data: Any) -> datetime:
        if isinstance(data, bool) or not isinstance(data, str | int | float):
            raise serializers.ValidationError(f"{FORMS}.")
        try:
            return parse_start(str(data), self.context["actor"].zone)
        except ValueError as error:
            raise serializers.ValidationError(f"{error}.") from None


class DeviceSerializer(serializers.Serializer[Device]):
    """Context: `account`, `actor`. The validated data has the names of the model."""

    enabled = serializers.BooleanField(required=False)
    enable = serializers.BooleanField(required=False)  # the older spelling; also takes "true" and "false"
    mapped_ch = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=MAX_INTEGER, source="mapped_channel_id"
    )

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        facts = {fact.name: Text(fact.max_length) for fact in FACTS}
        return {DESCRIPTION.name: Text(DESCRIPTION.max_length), **super().get_fields(), **facts}

    def validate_mapped_ch(self, number: int | None) -> int | None:
        """The channel's primary key."""
        if number is None:
            return None
        channel = Channel.objects.for_account(self.context["account"]).filter(number=number).first()
        if channel is None:
            raise ContractError(*NO_CHANNEL)
        return channel.pk

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "enable" in attrs:
            attrs.setdefault("enabled", attrs.pop("enable"))
            attrs.pop("enable", None)
        return attrs

    def to_representation(self, instance: Device) -> dict[str, Any]:
        zone = self.context["actor"].zone
        shown = {
            "device_id": instance.device_id,
            "description": instance.description,
            "enabled": instance.enabled,
            "enable": str(instance.enabled).lower(),
            "mapped_ch": instance.mapped_channel.number if instance.mapped_channel else None,
            **{fact.name: getattr(instance, fact.name) for fact in FACTS},
            "activate_at": with_colon(instance.activate_at, zone) if instance.activate_at else None,
        }
        if instance.state is not None and instance.state_at is not None:
            shown["state"] = {**instance.state, "last_update": with_colon(instance.state_at, zone)}
        return shown


class LabelSerializer(serializers.Serializer[dict[str, str]]):
    key = serializers.CharField(max_length=200, trim_whitespace=False)
    label = Text(200, default="")  # type: ignore[assignment]
    unit = Text(200, default="")


VALUES = {f"value{n}": "value" if n == 1 else f"value{n}" for n in range(1, 5)}  # v1's names -> keys


class ChannelSerializer(serializers.Serializer[Channel]):
    """Context: `account` to read fields; `actor` and `newest`, the times of the channels' newest datapoints
    by primary key, to show them. The validated data has the names of the model."""

    channel_name = Text(200, source="name")
    streams = LabelSerializer(many=True, required=False)
    retention_days = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=36_500)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        older = {f"{value}_{part}": Text(200) for value in VALUES for part in ("name", "unit")}
        return {**super().get_fields(), **older}

    def validate_streams(self, streams: list[dict[str, str]]) -> list[dict[str, str]]:
        if len({stream["key"] for stream in streams}) < len(streams):
            raise serializers.ValidationError("Each key may be there once.")
        most = self.context["account"].max_keys
        if len(streams) > most:
            rule = f"You can have {counted(most, 'key')} with a label in a channel."
            raise serializers.ValidationError(rule)
        return [dict(stream) for stream in streams]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        older = {name: attrs.pop(name) for name in list(attrs) if name.startswith("value")}
        if older:
            current = attrs.get("streams", self.instance.streams if self.instance else [])
            by_key = {stream["key"]: dict(stream) for stream in current}
            for name, text in older.items():  # value1_name, value1_unit: label and unit of the key `value`
                value, part = name.split("_")
                stream = by_key.setdefault(VALUES[value], {"key": VALUES[value], "label": "", "unit": ""})
                stream["label" if part == "name" else "unit"] = text
            attrs["streams"] = self.validate_streams(list(by_key.values()))
        return attrs

    def to_representation(self, instance: Channel) -> dict[str, Any]:
        newest = self.context["newest"].get(instance.pk)
        return {
            "channel": instance.number,
            "channel_name": instance.name,
            "last_update": stream_time(newest, self.context["actor"]),
            "streams": instance.streams,
            "retention_days": instance.retention_days,
        }


class TagSerializer(serializers.Serializer[Any]):
    tag = serializers.CharField(trim_whitespace=False, allow_blank=True)

    def validate_tag(self, name: str) -> str:
        if bad_tag(name):
            raise serializers.ValidationError(f"A tag has {TAG_RULE}.")
        return name


class UserSerializer(serializers.ModelSerializer[User]):
    """Context: `storage`, `limits`, and the request, whose token decides which tokens are shown."""

    class Meta:
        model = User
        fields = ["email1", "email2", "organization", "locale", "user_alias"]
        extra_kwargs = {"locale": {"required": False}}

    def validate_locale(self, name: str) -> str:
        if name not in time_zones():
            raise serializers.ValidationError("The database does not know this time zone.")
        return name

    def to_representation(self, instance: User) -> dict[str, Any]:
        return {
            **credentials_seen_by(self.context["request"].auth),
            **super().to_representation(instance),
            "storage": self.context["storage"],
            "limits": self.context["limits"],
        }
