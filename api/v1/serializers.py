"""Shapes of REST v1 (docs/contract.md)."""

from typing import Any

from api.v2.serializers import VALUES, ChannelSerializer
from thingscale.streams.models import Channel


class OlderChannelSerializer(ChannelSerializer):
    """Labels and units of the four values in place of `streams`."""

    def to_representation(self, instance: Channel) -> dict[str, Any]:
        shown = super().to_representation(instance)
        streams = {stream["key"]: stream for stream in shown.pop("streams")}
        del shown["retention_days"]
        for name, key in VALUES.items():
            shown[f"{name}_name"] = streams.get(key, {}).get("label", "")
            shown[f"{name}_unit"] = streams.get(key, {}).get("unit", "")
        return shown
