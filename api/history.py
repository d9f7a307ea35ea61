"""Lists of what has happened, the newest first, page by page."""

from collections.abc import Callable
from typing import TypeVar

from django.db.models import Model, Q

from api import options
from api.auth import ApiRequest
from thingscale.accounts.tenancy import OwnedQuerySet
from thingscale.lib.clock import parse_end, parse_start

M = TypeVar("M", bound=Model)
MAX_ROWS = 1000
ROWS = 100  # without X-PAGELIMIT


def newest_first(request: ApiRequest, rows: OwnedQuerySet[M], time: str, find: Callable[[str], M]) -> list[M]:
    """`time`: the field that orders them. X-BEFORE is the last id of the page before, which `find` reads."""
    zone = request.actor.zone
    if since := options.moment(request, "STARTTIME", parse_start, zone):
        rows = rows.filter(**{f"{time}__gte": since})
    if until := options.moment(request, "ENDTIME", parse_end, zone):
        rows = rows.filter(**{f"{time}__lte": until})
    if before := options.text(request, "BEFORE"):
        last = find(before)
        moment = getattr(last, time)
        rows = rows.filter(Q(**{f"{time}__lt": moment}) | Q(**{time: moment}, pk__lt=last.pk))
    limit = options.whole_number(request, "PAGELIMIT", ROWS, 1, MAX_ROWS)
    return list(rows.order_by(f"-{time}", "-pk")[:limit])
