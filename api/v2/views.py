"""The calls of CONTRACT 2."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import orjson
from django.conf import settings
from django.db.models import Max, Sum
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api import options
from api.parsers import AlwaysJSON, ExactJSONParser
from api.v2 import points
from api.v2.serializers import (
    MAX_INTEGER,
    NO_CHANNEL,
    ChannelSerializer,
    DeviceSerializer,
    TagSerializer,
    UserSerializer,
    stream_time,
)
from api.viewsets import OwnedViewSet, ok
from thingscale.accounts.actions import update_account
from thingscale.accounts.models import User
from thingscale.devices.actions import create_device, delete_device
from thingscale.devices.models import Device
from thingscale.lib.clock import parse_end, parse_start
from thingscale.lib.errors import Refused
from thingscale.lib.names import bad_device_id
from thingscale.streams import actions, queries
from thingscale.streams.models import Channel, Latest, Tag

MAX_LAST = 10_000  # rows with X-ENDTIME: last


class DeviceViewSet(OwnedViewSet[Device]):
    queryset = Device.objects.select_related("mapped_channel").order_by("device_id")
    serializer_class = DeviceSerializer
    missing = ("NO_DEVICE", "You have no device with this id: create it first.")

    def list(self, request: Request) -> Response:
        return Response(self.get_serializer(self.get_queryset(), many=True).data)

    def retrieve(self, request: Request, device_id: str) -> Response:
        return Response([self.get_serializer(self.device(device_id)).data])

    def create(self, request: Request, device_id: str) -> Response:
        create_device(self.user, device_id, **self.changes(required=False))
        return ok(201)

    def update(self, request: Request, device_id: str) -> Response:
        device = self.device(device_id)
        actions.configure_device(device, self.changes())
        return ok()

    def destroy(self, request: Request, device_id: str) -> Response:
        delete_device(self.device(device_id))
        return ok()

    def device(self, device_id: str) -> Device:
        if bad_device_id(device_id):  # also keeps what PostgreSQL can't compare out of the query
            raise Refused(*self.missing)
        return self.find(device_id=device_id)


class ChannelAccess(OwnedViewSet[Channel]):
    """Finding a channel by its number in the path."""

    queryset = Channel.objects.all()
    missing = NO_CHANNEL

    def channel(self, number: str) -> Channel:
        whole = _whole(number)
        if whole is None:
            raise Refused(*self.missing)
        return self.find(number=whole)


def _whole(text: str) -> int | None:
    """A channel's number in its one spelling: not 007."""
    fits = re.fullmatch(r"0|[1-9][0-9]{0,9}", text) and int(text) <= MAX_INTEGER
    return int(text) if fits else None


class ChannelViewSet(ChannelAccess):
    """X-TAGNAME turns a change of the channel into one of that tag."""

    serializer_class = ChannelSerializer

    def list(self, request: Request) -> Response:
        return self._shown(list(self.get_queryset()))

    def retrieve(self, request: Request, number: str) -> Response:
        return self._shown([self.channel(number)])

    def create(self, request: Request, number: str) -> Response:
        if tag := options.tag(request):
            actions.create_tag(self.channel(number), tag)
            return ok(201)
        whole = _whole(number)
        if whole is None:
            raise Refused("BAD_PARAMETER", f"A channel is a whole number from 0 to {MAX_INTEGER}.")
        actions.create_channel(self.user, whole, **self.changes(required=False))
        return ok(201)

    def update(self, request: Request, number: str) -> Response:
        channel = self.channel(number)
        if tag := options.tag(request):
            found = self._tag(channel, tag)
            actions.rename_tag(found, self.changes(shape=TagSerializer)["tag"])
        else:
            actions.update_channel(channel, self.changes(instance=channel))
        return ok()

    def destroy(self, request: Request, number: str) -> Response:
        channel = self.channel(number)
        if tag := options.tag(request):
            actions.delete_tag(self._tag(channel, tag))
        else:
            actions.delete_channel(channel)
        return ok()

    def _tag(self, channel: Channel, name: str) -> Tag:
        found = Tag.objects.filter(channel=channel, name=name).select_related("channel").first()
        if found is None:
            raise Refused("NO_CHANNEL", f"Channel {channel.number} has no tag {name}.")
        return found

    def _shown(self, channels: Sequence[Channel]) -> Response:
        latest = Latest.objects.filter(channel__in=channels)
        newest = dict(latest.order_by().values_list("channel").annotate(Max("at")))
        context = {**self.get_serializer_context(), "newest": newest}
        serializer = ChannelSerializer(context=context)
        rows = [serializer.to_representation(channel) for channel in channels]
        with_tags = options.flag(self.request, "WITHTAG")
        return Response(_by_tag(channels, rows, self.user) if with_tags else rows)


def _by_tag(channels: Sequence[Channel], rows: list[dict[str, Any]], user: User) -> list[dict[str, Any]]:
    """A row per tag. Untagged data has one with null, and so has a channel without any tag."""
    latest = Latest.objects.filter(channel__in=channels).values_list("channel", "tag", "at")
    newest = {(channel, tag): at for channel, tag, at in latest}
    tags: dict[int, list[tuple[str | None, int]]] = {channel.pk: [] for channel in channels}
    for tag in Tag.objects.filter(channel__in=channels):
        tags[tag.channel_id].append((tag.name, tag.pk))
    for channel, named in tags.items():
        if not named or (channel, Latest.UNTAGGED) in newest:
            named.insert(0, (None, Latest.UNTAGGED))
    return [
        {**row, "tag": name, "last_update": stream_time(newest.get((channel.pk, key)), user)}
        for channel, row in zip(channels, rows, strict=True)
        for name, key in tags[channel.pk]
    ]


class StreamViewSet(ChannelAccess):
    parser_classes = [ExactJSONParser]

    def retrieve(self, request: Request, number: str) -> HttpResponseBase:
        channel = self.channel(number)
        totals = Latest.objects.filter(channel=channel).aggregate(at=Max("at"), count=Sum("count"))
        head = {
            "channel": channel.number,
            "channel_name": channel.name,
            "last_update": stream_time(totals["at"], self.user),
        }
        selection, last = self._selection(channel)
        if last:
            limit = options.whole(request, "PAGELIMIT", 1, 1, MAX_LAST)
            return _streamed(head, queries.newest(selection, limit))
        if function := options.choice(request, "AGGREGATE", queries.AGGREGATES, ""):
            return _aggregated(head, function, selection)
        _check_size(selection, totals["count"] or 0)
        return _streamed(head, queries.pages(selection))

    def create(self, request: Request, number: str) -> Response:
        channel = self.channel(number)
        stored = actions.store_points(channel, points.parse(self.body(), self.user.zone))
        return Response({"stored": stored}, 201)

    def _selection(self, channel: Channel) -> tuple[queries.Selection, bool]:
        """What the options ask for, and whether it is the newest rows of it."""
        sort = options.choice(self.request, "PAGESORT", ("asc", "desc"), "asc")
        selection = queries.Selection(channel.pk, self.user.locale, newest_first=sort == "desc")
        last = (options.text(self.request, "ENDTIME") or "").lower() == "last"
        if not last:
            selection = self._within_range(selection)
        if name := options.tag(self.request):
            tag = Tag.objects.filter(channel=channel, name=name).first()
            selection = selection._replace(tag=tag.pk) if tag else selection._replace(start="infinity")
        return selection, last

    def _within_range(self, selection: queries.Selection) -> queries.Selection:
        end = options.moment(self.request, "ENDTIME", parse_end, self.user.zone)
        start = options.moment(self.request, "STARTTIME", parse_start, self.user.zone)
        if end is None:
            raise options.bad(
                "ENDTIME", "is required: the end of the range, or last for the newest datapoints"
            )
        if start is None:
            return selection._replace(end=end)
        if start > end:
            raise options.bad("STARTTIME", "must not be after X-ENDTIME")
        return selection._replace(start=start, end=end)


def _check_size(selection: queries.Selection, stored: int) -> None:
    """The channel's total answers most requests without counting."""
    limit = settings.STREAM_MAX_ROWS
    if stored > limit and queries.has_more_than(selection, limit):
        raise Refused("RANGE_TOO_LARGE", f"The range has more than {limit} rows: ask for it in parts.")


def _streamed(head: dict[str, Any], pages: Iterator[str]) -> StreamingHttpResponse:
    """Reads the first page before it answers, so that a failure until then has its status. One that comes
    later breaks the connection: a cut answer can't be taken for a whole one."""
    first = next(pages, None)
    texts = pages if first is None else chain([first], pages)
    return StreamingHttpResponse(_document(head, texts), content_type="application/json")


def _document(head: dict[str, Any], pages: Iterable[str]) -> Iterator[bytes]:
    yield orjson.dumps(head)[:-1] + b',"stream":['
    for position, page in enumerate(pages):
        yield b"," * bool(position) + page.encode()
    yield b"]}"


def _aggregated(head: dict[str, Any], function: str, selection: queries.Selection) -> HttpResponse:
    leaves = queries.aggregate(selection, function)
    result = [{"_id": None, "value": _in_shape(leaves), "at": None}] if leaves else []
    body = orjson.dumps({**head, "aggr_type": function, "result": result})
    return HttpResponse(body, content_type="application/json")


def _in_shape(leaves: list[tuple[list[str], str]]) -> Any:
    """Numbers back at their places. Where datapoints differ in shape, the object wins over the number."""
    root: dict[str, Any] = {}
    for path, text in leaves:  # ordered: a path comes after the shorter one that begins it
        node = root
        for key in ("", *path[:-1]) if path else ():
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        node[path[-1] if path else ""] = orjson.Fragment(text)
    return root[""]


class UserViewSet(OwnedViewSet[User]):
    serializer_class = UserSerializer

    def list(self, request: Request) -> Response:
        totals = Latest.objects.filter(channel__user=self.user).aggregate(n=Sum("count"), size=Sum("bytes"))
        count, usage = totals["n"] or 0, totals["size"] or 0
        storage = {
            "count": count,
            "usage_bytes": usage,
            "maxSize": self.user.max_storage,
            "avg_obj_size": round(usage / count) if count else 0,
        }
        context = {**self.get_serializer_context(), "storage": storage}
        return Response([UserSerializer(self.user, context=context).data])

    def update(self, request: Request) -> Response:
        update_account(self.user, self.changes(instance=self.user))
        return ok()


class UnknownPath(APIView):
    content_negotiation_class = AlwaysJSON

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise Refused("NOT_FOUND", "There is no such service: see the list of calls.")
