"""/v2/stream/{channel}: beyond the contract CSV, lines of JSON, buckets of time and ETags."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from rest_framework.request import Request
from rest_framework.response import Response

from api import options
from api.arrays import whole_if_small
from api.parsers import ExactJSONParser
from api.streams import Head, StreamReader, few, in_array, in_shape, json
from api.viewsets import stream_time
from thingscale.lib import points
from thingscale.lib.clock import now_us
from thingscale.lib.errors import Refused
from thingscale.lib.points import Points
from thingscale.streams import actions, export, intervals, queries
from thingscale.streams.exactly_once import keys
from thingscale.streams.export import CSV, LINES
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
        key = self._idempotency_key()
        body = self.body()
        sent = points.parse(body, self.user.zone, now_us())
        submission = (key, _fingerprint(body, sent)) if key else None
        if isinstance(body, list):
            body.clear()  # else it is the garbage collector's: REST framework's request is part of a cycle
        stored = actions.store_points(channel, sent, submission)
        return Response({"stored": stored}, 201)

    def rows(self, head: Head, selection: Selection, limit: int | None = None) -> HttpResponseBase:
        media_type = self.request._request.get_preferred_type([JSON, LINES, CSV]) or JSON
        parts = _written(media_type, head, selection, limit)
        if limit is not None and limit <= queries.PAGE:
            answer = whole_if_small(parts, media_type)
        else:
            answer = StreamingHttpResponse(parts, content_type=media_type)
        if media_type == CSV:
            answer["Content-Disposition"] = f'attachment; filename="channel-{head["channel"]}.csv"'
        return answer

    def aggregated(self, head: Head, selection: Selection) -> HttpResponse | None:
        interval = options.choice(self.request, "INTERVAL", intervals.INTERVALS, "")
        if not interval:
            return super().aggregated(head, selection)
        function = options.choice(self.request, "AGGREGATE", intervals.FUNCTIONS, "avg")
        buckets = few(intervals.aggregate(selection, function, interval))
        result = [
            {"_id": None, "value": in_shape(leaves), "at": stream_time(begin, self.user)}
            for begin, leaves in buckets
        ]
        return json({**head, "aggr_type": function, "interval": interval, "result": result})

    def _idempotency_key(self) -> str | None:
        key = self.request.headers.get("Idempotency-Key", "")
        if len(key) > MAX_KEY:
            raise Refused("BAD_PARAMETER", f"Idempotency-Key: has at most {MAX_KEY} characters.")
        return key or None


def _fingerprint(body: Any, sent: Points) -> UUID:
    """Tells the body that these points were made of from others. Their times do not: without `at` they are
    of the moment."""
    items = body if isinstance(body, list) else [body]
    times = orjson.dumps([isinstance(body, list), *(item.get("at") for item in items)])
    return keys.fingerprint(times, orjson.dumps(sent.tags), *sent.values)


def _written(media_type: str, head: Head, selection: Selection, limit: int | None) -> Iterator[bytes]:
    """The document in parts; the first datapoints are already read."""
    if media_type == LINES:
        return export.lines(selection, limit)
    if media_type == CSV:
        return export.csv(selection, limit)
    return in_array(head, export.read(selection, limit, queries.V2))
