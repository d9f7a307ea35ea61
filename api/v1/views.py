"""The calls of REST v1 (docs/contract.md): reading only, with v1's shapes."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.http.response import HttpResponseBase

from api.arrays import array
from api.streams import StreamReader, in_shape
from api.v1.serializers import OlderChannelSerializer
from api.v2 import views
from api.v2.serializers import VALUES
from thingscale.streams import queries
from thingscale.streams.models import Channel
from thingscale.streams.queries import Leaf


class OlderDeviceViewSet(views.DeviceViewSet):
    http_method_names = ["get", "head"]


class OlderChannelViewSet(views.ChannelViewSet):
    http_method_names = ["get", "head"]
    serializer_class = OlderChannelSerializer

    def shown(self, pages: Iterable[Sequence[Channel]]) -> HttpResponseBase:
        return array(row for page in pages for row in self.rows(page))


class OlderStreamViewSet(StreamReader):
    http_method_names = ["get", "head"]
    form = queries.V1

    def shown(self, leaves: Sequence[Leaf]) -> dict[str, Any]:
        found = in_shape(leaves)
        return {key: found.get(key) for key in VALUES.values()}
