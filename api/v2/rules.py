"""/v2/rule: activation rules, which enable and map new devices."""

from collections.abc import Sequence
from typing import Any

from django.http.response import HttpResponseBase
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.arrays import array
from api.viewsets import MAX_INTEGER, NO_CHANNEL, AccountViewSet, ok, path_number
from thingscale.devices.actions import create_rule, delete_rule, update_rule
from thingscale.devices.models import ActivationRule
from thingscale.lib.errors import ContractError
from thingscale.streams.models import Channel


class RuleSerializer(serializers.Serializer[ActivationRule]):
    """Context: `account`. The validated data has `pattern`, `channel_id` and `position`, as far as they are
    given. A rule has either a channel or `own_channel`: one of them ends the other."""

    mapped_ch = serializers.IntegerField(required=False, allow_null=True, min_value=0, max_value=MAX_INTEGER)
    own_channel = serializers.BooleanField(required=False)
    position = serializers.IntegerField(required=False, min_value=0, max_value=MAX_INTEGER)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        is_new = self.instance is None
        pattern = serializers.CharField(required=is_new, allow_blank=True, trim_whitespace=False)
        return {"pattern": pattern, **super().get_fields()}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        unset = self.instance is None or (attrs.keys() & {"mapped_ch", "own_channel"})
        number, own = attrs.pop("mapped_ch", None), attrs.pop("own_channel", False)
        if number is not None and own:
            rule = "Either each device gets its own, or all get mapped_ch."
            raise serializers.ValidationError({"own_channel": rule})
        if number is not None:
            channel = Channel.objects.for_account(self.context["account"]).filter(number=number).first()
            if channel is None:
                raise ContractError(*NO_CHANNEL)
            attrs["channel_id"] = channel.pk
        elif own:
            attrs["channel_id"] = None
        elif unset:
            raise serializers.ValidationError({"mapped_ch": "Name a channel, or set own_channel to true."})
        return attrs

    def to_representation(self, instance: ActivationRule) -> dict[str, Any]:
        """Context: `places`, of the account's rules by primary key."""
        return {
            "rule_id": instance.pk,
            "pattern": instance.pattern,
            "mapped_ch": instance.channel.number if instance.channel else None,
            "own_channel": instance.channel is None,
            "position": self.context["places"][instance.pk],
        }


class RuleViewSet(AccountViewSet[ActivationRule]):
    queryset = ActivationRule.objects.select_related("channel")
    serializer_class = RuleSerializer
    missing = ("NO_RULE", "You have no rule with this id: create it first.")

    def list(self, request: Request) -> HttpResponseBase:
        return array(self.shown())

    def retrieve(self, request: Request, number: str) -> Response:
        key = path_number(number)
        found = [rule for rule in self.shown() if rule["rule_id"] == key]
        if not found:
            raise ContractError(*self.missing)
        return Response(found)

    def create(self, request: Request) -> Response:
        fields = self.changes()
        rule = create_rule(
            self.request.account, fields["pattern"], fields["channel_id"], fields.get("position")
        )
        return Response({"rule_id": rule.pk}, 201)

    def update(self, request: Request, number: str) -> Response:
        rule = self.rule(number)
        fields = self.changes(instance=rule)
        position = fields.pop("position", None)
        update_rule(rule, fields, position)
        return ok()

    def destroy(self, request: Request, number: str) -> Response:
        delete_rule(self.rule(number))
        return ok()

    def rule(self, number: str) -> ActivationRule:
        key = path_number(number)
        if key is None:
            raise ContractError(*self.missing)
        return self.find(pk=key)

    def shown(self) -> Sequence[dict[str, Any]]:
        """All rules, in the order in which they are tried. An account has a hundred or so."""
        rules = self.get_queryset()
        places = {rule.pk: place for place, rule in enumerate(rules)}
        shape = self.get_serializer_class()(context={"places": places})
        return [shape.to_representation(rule) for rule in rules]
