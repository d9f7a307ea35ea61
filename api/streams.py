"""Reading a stream (docs/contract.md, Options). v1 and v2 differ only in the form of a row."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import orjson
from django.db.models import Max, Sum
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from api import options
from api.viewsets import ChannelAccess, stream_time
from thingscale.devices.deleted import keys_of
from thingscale.lib.clock import parse_end, parse_start
from thingscale.lib.errors import ContractError
from thingscale.streams import export, queries
from thingscale.streams.models import Channel, Latest, Tag
from thingscale.streams.queries import Leaf, Selection

MAX_LAST = 10_000  # rows with X-ENDTIME: last
Head = dict[str, Any]
T = TypeVar("T")


class StreamReader(ChannelAccess):
    """`form` is how a datapoint is shown."""

    form: ClassVar[queries.RowFormat] = queries.V2

    def retrieve(self, request: Request, number: str) -> HttpResponseBase:
        channel = self.channel(number)
        totals = Latest.objects.shown().filter(channel=channel).aggregate(at=Max("at"), count=Sum("count"))
        head = {
            "channel": channel.number,
            "channel_name": channel.name,
            "last_update": stream_time(totals["at"], self.request.actor),
        }
        selection, last = self._selection(channel)
        if last:
            return self.rows(head, selection, options.whole_number(request, "PAGELIMIT", 1, 1, MAX_LAST))
        if answer := self.aggregated(head, selection):
            return answer
        export.check_size(selection, totals["count"] or 0)
        return self.rows(head, selection)

    def rows(self, head: Head, selection: Selection, limit: int | None = None) -> HttpResponseBase:
        """The selected datapoints, or the newest of them. A failure before the first row gets its status. A
        later one breaks the connection, so that nobody takes a cut answer for a whole one."""
        texts = export.read(selection, limit, self.form)
        return StreamingHttpResponse(in_array(head, texts), content_type="application/json")

    def aggregated(self, head: Head, selection: Selection) -> HttpResponseBase | None:
        """None if no aggregate is asked for."""
        function = options.choice(self.request, "AGGREGATE", queries.AGGREGATES, "")
        if not function:
            return None
        leaves = few(queries.aggregate(selection, function, self.form))
        result = [{"_id": None, **self.shown(leaves), "at": None}] if leaves else []
        body = {**head, "aggr_type": function, "result": result}
        return HttpResponse(orjson.dumps(body), content_type="application/json")

    def shown(self, leaves: Sequence[Leaf]) -> dict[str, Any]:
        return {"value": in_shape(leaves)}

    def _selection(self, channel: Channel) -> tuple[Selection, bool]:
        """What the options ask for, and whether that is only the newest rows of it."""
        request, zone = self.request, self.request.actor.zone
        sort = options.choice(request, "PAGESORT", ("asc", "desc"), "asc")
        selection = Selection(channel.id, request.actor.locale, newest_first=sort == "desc")
        last = (options.text(request, "ENDTIME") or "").lower() == "last"
        if not last:
            end = options.moment(request, "ENDTIME", parse_end, zone)
            if (options.text(request, "STARTTIME") or "").lower() == "last":
                raise options.bad("STARTTIME", "is a time: for the newest datapoints send X-ENDTIME: last")
            start = options.moment(request, "STARTTIME", parse_start, zone)
            if end is None:
                rule = "is required: the end of the range, or last for the newest datapoints"
                raise options.bad("ENDTIME", rule)
            if start is not None and start > end:
                raise options.bad("STARTTIME", "must not be after X-ENDTIME")
            selection = selection._replace(end=end)
            if start is not None:
                selection = selection._replace(start=start)
        nothing = selection._replace(start="infinity")
        if name := options.name_of(request, "TAGNAME"):
            tag = Tag.objects.filter(channel=channel, name=name).first()
            selection = selection._replace(tag=tag.id) if tag else nothing
        if device_id := options.name_of(request, "DEVICEID"):
            keys = keys_of(request.account, device_id)
            selection = selection._replace(devices=tuple(keys)) if keys else nothing
        return selection, last


def few(found: T | None) -> T:
    """Raises ContractError: RANGE_TOO_LARGE."""
    if found is None:
        limit = queries.MAX_LEAVES
        rule = f"has more than {limit} values, or {queries.MAX_LEAF_BYTES // 2**20} MiB of them"
        raise ContractError("RANGE_TOO_LARGE", f"The result {rule}: ask for it in parts.")
    return found


def in_array(head: Head, pages: Iterator[str], name: str = "stream") -> Iterator[bytes]:
    yield orjson.dumps(head)[:-1] + f',"{name}":['.encode()
    for position, page in enumerate(pages):
        yield b"," * bool(position) + page.encode()
    yield b"]}"


def in_shape(leaves: Sequence[Leaf]) -> Any:
    """Puts numbers back at their paths. Where other datapoints have an object at the path of a number, the
    number is in that object, as `value`."""
    root: dict[str, Any] = {}
    for _, path, text in leaves:  # ordered: a path comes after the shorter one that begins it
        node = root
        for key in ("", *path[:-1]) if path else ():
            if not isinstance(node.get(key), dict):
                node[key] = {"value": node[key]} if key in node else {}
            node = node[key]
        name = path[-1] if path else ""
        if name in node:  # a number that has moved here is in the way of an object's own `value`
            node[""] = node[name]
        node[name] = orjson.Fragment(text)
    return root[""]
