"""/v2/stream/{channel}: beyond the contract CSV, lines of JSON, buckets of time and ETags."""

import orjson
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from rest_framework.request import Request
from rest_framework.response import Response

from api import options
from api.arrays import whole_if_small
from api.parsers import ExactJSONParser
from api.streams import Head, StreamReader, few, in_array, in_shape
from api.viewsets import stream_time
from thingscale.lib import points
from thingscale.lib.clock import now_us
from thingscale.lib.errors import ContractError
from thingscale.streams import export, queries, time_buckets
from thingscale.streams.actions.datapoints import store_points
from thingscale.streams.csv_columns import Dialect
from thingscale.streams.exactly_once import keys
from thingscale.streams.export import CSV, LINES, TYPES
from thingscale.streams.queries import Selection

JSON = "application/json"
MAX_KEY = 255  # characters of an Idempotency-Key


class StreamViewSet(StreamReader):
    parser_classes = [ExactJSONParser]

    def retrieve(self, request: Request, number: str) -> HttpResponseBase:
        answer = super().retrieve(request, number)
        patch_vary_headers(answer, ["Accept"])
        return answer

    def create(self, request: Request, number: str) -> Response:
        channel = self.channel(number)
        key = request.headers.get("Idempotency-Key", "")
        if len(key) > MAX_KEY:
            raise ContractError("BAD_PARAMETER", f"Idempotency-Key: has at most {MAX_KEY} characters.")
        body = self.body()
        sent = points.parse(body, self.request.actor.zone, now_us())
        idempotency = None
        if key:  # the fingerprint has the times that are sent: those without `at` are times of this request
            items = body if isinstance(body, list) else [body]
            times = orjson.dumps([isinstance(body, list), *(item.get("at") for item in items)])
            idempotency = key, keys.fingerprint(times, orjson.dumps(sent.tags), *sent.values)
        if isinstance(body, list):
            body.clear()  # else the garbage collector has to free it: DRF's request is part of a cycle
        return Response({"stored": store_points(channel, sent, idempotency)}, 201)

    def rows(self, head: Head, selection: Selection, limit: int | None = None) -> HttpResponseBase:
        """Reads the first datapoints before it answers, so that a failure has its status."""
        media_type = preferred(self.request.headers.get("Accept", ""), [JSON, LINES, CSV])
        with_device = options.flag(self.request, "WITHDEVICE")
        marked = options.flag(self.request, "SPREADSHEET")
        separator = options.SEPARATORS[options.choice(self.request, "SEP", options.SEPARATORS, "comma")]
        if media_type == LINES:
            parts = export.lines(selection, limit)
        elif media_type == CSV:
            parts = export.csv(selection, limit, Dialect(separator, marked))
        else:
            form = queries.V2_WITH_DEVICE if with_device else queries.V2
            parts = in_array(head, export.read(selection, limit, form))
        content_type = TYPES.get(media_type, JSON)
        if limit is not None and limit <= queries.PAGE:
            answer = whole_if_small(parts, content_type)
        else:
            answer = StreamingHttpResponse(parts, content_type=content_type)
        if media_type == CSV:
            answer["Content-Disposition"] = f'attachment; filename="channel-{head["channel"]}.csv"'
        return answer

    def aggregated(self, head: Head, selection: Selection) -> HttpResponseBase | None:
        interval = options.choice(self.request, "INTERVAL", time_buckets.INTERVALS, "")
        if not interval:
            return super().aggregated(head, selection)
        function = options.choice(self.request, "AGGREGATE", time_buckets.FUNCTIONS, "avg")
        pages = few(time_buckets.aggregate(selection, function, interval))
        rows = (
            (
                {"_id": None, "value": in_shape(leaves), "at": stream_time(begin, self.request.actor)}
                for begin, leaves in page
            )
            for page in pages
        )
        texts = (b",".join(map(orjson.dumps, page)).decode() for page in rows)
        head = {**head, "aggr_type": function, "interval": interval}
        return whole_if_small(in_array(head, texts, "result"), JSON)


def preferred(accept: str, offered: list[str]) -> str:
    """The offered media type that an Accept header wants most, or the first if it wants none of them.
    Parameters such as a charset don't matter. Of equals, the one that comes first in the header wins."""
    wanted: dict[str, tuple[float, int]] = {}
    for position, part in enumerate(accept.lower().split(",")):
        media_range, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            wanted.setdefault(media_range, (float(quality), -position))
        except ValueError:
            continue
    best, choice = (0.0, 0), offered[0]
    for media_type in offered:
        ranges = (media_type, media_type.split("/")[0] + "/*", "*/*")
        found = next((wanted[each] for each in ranges if each in wanted), (0.0, 0))
        if found[0] > 0 and (best[0] == 0 or found > best):
            best, choice = found, media_type
    return choice
