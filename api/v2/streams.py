"""/v2/stream/{channel}: beyond the contract CSV, lines of JSON, buckets of time and ETags."""

from collections.abc import Iterator

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
from api.v2 import aggregates
from api.v2.aggregates import Row
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
FORMATS = {"json": JSON, "csv": CSV, "ndjson": LINES}
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
        media_type = self.asked_type() or preferred(
            self.request.headers.get("Accept", ""), [JSON, LINES, CSV]
        )
        with_device = options.flag(self.request, "WITHDEVICE")
        dialect = self.dialect()
        if media_type == LINES:
            parts = export.lines(selection, limit)
        elif media_type == CSV:
            parts = export.csv(selection, limit, dialect)
        else:
            form = queries.V2_WITH_DEVICE if with_device else queries.V2
            parts = in_array(head, export.read(selection, limit, form))
        content_type = TYPES.get(media_type, JSON)
        if limit is not None and limit <= queries.PAGE:
            answer = whole_if_small(parts, content_type)
        else:
            answer = StreamingHttpResponse(parts, content_type=content_type)
        return as_file(answer, head) if media_type == CSV else answer

    def asked_type(self) -> str | None:
        """The media type that is asked for by its short name, which goes before Accept."""
        return FORMATS.get(options.choice(self.request, "FORMAT", FORMATS, ""))

    def dialect(self) -> Dialect:
        marked = options.flag(self.request, "SPREADSHEET")
        separator = options.choice(self.request, "SEP", options.SEPARATORS, "comma")
        return Dialect(options.SEPARATORS[separator], marked)

    def aggregated(self, head: Head, selection: Selection) -> HttpResponseBase | None:
        """Accept alone leaves an aggregate the object that it always was."""
        interval = options.choice(self.request, "INTERVAL", time_buckets.INTERVALS, "")
        media_type = self.asked_type() or JSON
        if not interval and media_type == JSON:
            return super().aggregated(head, selection)
        if not interval:
            function = options.choice(self.request, "AGGREGATE", queries.AGGREGATES, "")
            if not function:
                return None
            leaves = few(queries.aggregate(selection, function))
            return self.as_text(iter([[Row(None, leaves)] if leaves else []]), media_type, head)
        function = options.choice(self.request, "AGGREGATE", time_buckets.FUNCTIONS, "avg")
        pages = few(time_buckets.aggregate(selection, function, interval))
        if media_type != JSON:
            return self.as_text(([Row(*bucket) for bucket in page] for page in pages), media_type, head)
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

    def as_text(self, pages: Iterator[list[Row]], media_type: str, head: Head) -> HttpResponseBase:
        actor, dialect = self.request.actor, self.dialect()
        parts = aggregates.csv(pages, actor, dialect) if media_type == CSV else aggregates.lines(pages, actor)
        answer = whole_if_small(parts, TYPES[media_type])
        return as_file(answer, head) if media_type == CSV else answer


def as_file(answer: HttpResponseBase, head: Head) -> HttpResponseBase:
    answer["Content-Disposition"] = f'attachment; filename="channel-{head["channel"]}.csv"'
    return answer


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
