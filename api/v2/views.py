"""The calls of REST v2 (docs/contract.md)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db.models import Max
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from api import options
from api.arrays import array
from api.v2.serializers import (
    ChannelSerializer,
    DeviceSerializer,
    TagSerializer,
    UserSerializer,
)
from api.viewsets import MAX_INTEGER, AccountViewSet, ChannelAccess, ok, path_number, stream_time
from thingscale.accounts.actions import update_account
from thingscale.accounts.models import User
from thingscale.accounts.tenancy import in_pages
from thingscale.devices.actions import create_device, delete_device
from thingscale.devices.models import Device
from thingscale.lib.errors import ContractError
from thingscale.lib.names import is_blank, may_exist
from thingscale.provisioning.actions import configure_device
from thingscale.streams.actions.channels import create_channel, delete_channel, update_channel
from thingscale.streams.actions.tags import create_tag, delete_tag, rename_tag
from thingscale.streams.models import Channel, Latest, Tag
from thingscale.streams.usage import limit_use, used_storage

DEVICES, CHANNELS = 500, 25  # read at once; labels may take 128 kB a channel


class DeviceViewSet(AccountViewSet[Device]):
    queryset = Device.objects.select_related("mapped_channel").order_by("device_id")
    serializer_class = DeviceSerializer
    missing = ("NO_DEVICE", "You have no device with this id: create it first.")

    def list(self, request: Request) -> HttpResponseBase:
        pages = in_pages(self.get_queryset(), "device_id", DEVICES)
        shape = self.get_serializer()
        return array(shape.to_representation(device) for page in pages for device in page)

    def retrieve(self, request: Request, device_id: str) -> Response:
        return Response([self.get_serializer(self.device(device_id)).data])

    def create(self, request: Request, device_id: str) -> Response:
        create_device(self.request.account, device_id, **self.changes(required=False))
        return ok(201)

    def update(self, request: Request, device_id: str) -> Response:
        device = self.device(device_id)
        configure_device(device, self.changes())
        return ok()

    def destroy(self, request: Request, device_id: str) -> Response:
        delete_device(self.device(device_id))
        return ok()

    def device(self, device_id: str) -> Device:
        if not may_exist(device_id):
            raise ContractError(*self.missing)
        return self.find(device_id=device_id)


class ChannelViewSet(ChannelAccess):
    """X-TAGNAME turns a change of the channel into one of that tag."""

    write_options = ("TAGNAME",)
    serializer_class = ChannelSerializer

    def list(self, request: Request) -> HttpResponseBase:
        return self.shown(in_pages(self.get_queryset(), "number", CHANNELS))

    def retrieve(self, request: Request, number: str) -> HttpResponseBase:
        return self.shown([[self.channel(number)]])

    def create(self, request: Request, number: str) -> Response:
        if tag := options.name_of(request, "TAGNAME"):
            create_tag(self.channel(number), tag)
            return ok(201)
        key = path_number(number)
        if key is None:
            raise ContractError("BAD_PARAMETER", f"A channel is a whole number from 0 to {MAX_INTEGER}.")
        create_channel(self.request.account, key, **self.changes(required=False))
        return ok(201)

    def update(self, request: Request, number: str) -> Response:
        channel = self.channel(number)
        if tag := options.name_of(request, "TAGNAME"):
            rename_tag(self._tag(channel, tag), self.changes(shape=TagSerializer)["tag"])
        else:
            update_channel(channel, self.changes(instance=channel))
        return ok()

    def destroy(self, request: Request, number: str) -> Response:
        channel = self.channel(number)
        if tag := options.name_of(request, "TAGNAME"):
            delete_tag(self._tag(channel, tag))
        else:
            delete_channel(channel)
        return ok()

    def _tag(self, channel: Channel, name: str) -> Tag:
        found = Tag.objects.filter(channel=channel, name=name).select_related("channel").first()
        if found is None and is_blank(name):
            raise options.bad("TAGNAME", "is blank: name a tag, or leave the option out")
        if found is None:
            raise ContractError("NO_CHANNEL", f"Channel {channel.number} has no tag {name}.")
        return found

    def shown(self, pages: Iterable[Sequence[Channel]]) -> HttpResponseBase:
        rows = self._rows_by_tag if options.flag(self.request, "WITHTAG") else self.rows
        return array(row for page in pages for row in rows(page))

    def rows(self, channels: Sequence[Channel]) -> Iterable[dict[str, Any]]:
        latest = Latest.objects.shown().filter(channel__in=channels)
        newest = dict(latest.order_by().values_list("channel").annotate(Max("at")))
        shape = self.get_serializer_class()(context={"actor": self.request.actor, "newest": newest})
        return [shape.to_representation(channel) for channel in channels]

    def _rows_by_tag(self, channels: Sequence[Channel]) -> Iterator[dict[str, Any]]:
        """A row for each tag. Untagged data has a row with null, and so has a channel without any tag."""
        latest = Latest.objects.shown().filter(channel__in=channels).values_list("channel", "tag", "at")
        newest = {(channel, tag): at for channel, tag, at in latest}
        tags: dict[int, list[tuple[str | None, int]]] = {channel.pk: [] for channel in channels}
        for tag in Tag.objects.filter(channel__in=channels):
            tags[tag.channel_id].append((tag.name, tag.pk))
        for channel, named in tags.items():
            if not named or (channel, Latest.UNTAGGED) in newest:
                named.insert(0, (None, Latest.UNTAGGED))
        for each, row in zip(channels, self.rows(channels), strict=True):
            for name, key in tags[each.pk]:
                last = stream_time(newest.get((each.pk, key)), self.request.actor)
                yield {**row, "tag": name, "last_update": last}


class UserViewSet(AccountViewSet[User]):
    """The account of the token, and its actor: the contract shows both as one user."""

    serializer_class = UserSerializer

    def list(self, request: Request) -> Response:
        account = self.request.account
        used = used_storage(account)
        storage = {
            "count": used.datapoints,
            "usage_bytes": used.bytes,
            "maxSize": account.max_storage,
            "avg_obj_size": round(used.datapoint_bytes / used.datapoints) if used.datapoints else 0,
        }
        limits: dict[str, Any] = {
            name: {"used": use.used, "max": use.limit}
            for name, use in limit_use([account])[account.id].items()
        }
        limits |= {"rest_rate": {"max": account.rest_rate}, "when_full": account.when_full}
        context = {**self.get_serializer_context(), "storage": storage, "limits": limits}
        shown = UserSerializer(self.request.auth.user, context=context).data
        return Response([shown], headers={"Cache-Control": "private, no-store"})  # tokens are in it

    def update(self, request: Request) -> Response:
        update_account(self.request.account, self.changes(instance=self.request.auth.user))
        return ok()
