"""Options of a call: the header `X-NAME`, or else the query parameter `name` (CONTRACT 2).

Each function takes the name in upper case without its `X-`, and raises Refused BAD_PARAMETER naming the
header. An option that is sent empty counts as not sent.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from zoneinfo import ZoneInfo

from rest_framework.request import Request

from thingscale.lib.clock import restore_plus
from thingscale.lib.errors import Refused
from thingscale.lib.names import TAG_RULE, bad_tag


def text(request: Request, name: str) -> str | None:
    header = _utf8(request.headers.get(f"X-{name}", ""))
    return (header or request.query_params.get(name.lower(), "")).strip() or None


def _utf8(header: str) -> str:
    """WSGI hands over header bytes as Latin-1; clients send UTF-8."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def flag(request: Request, name: str) -> bool:
    return choice(request, name, ("true", "false", "1", "0"), "false") in {"true", "1"}


def choice(request: Request, name: str, choices: Collection[str], default: str) -> str:
    given = (text(request, name) or default).lower()
    if given not in choices and given != default:
        raise bad(name, f"must be one of {', '.join(choices)}")
    return given


def whole(request: Request, name: str, default: int, low: int, high: int) -> int:
    given = text(request, name) or str(default)
    if not (given.isascii() and given.isdigit() and len(given) < 19 and low <= int(given) <= high):
        raise bad(name, f"must be a whole number from {low} to {high}")
    return int(given)


def tag(request: Request) -> str | None:
    given = text(request, "TAGNAME")
    if given is not None and bad_tag(given):
        raise bad("TAGNAME", f"has {TAG_RULE}")
    return given


def moment(
    request: Request, name: str, parse: Callable[[str, ZoneInfo], datetime], zone: ZoneInfo
) -> datetime | None:
    given = text(request, name)
    in_query = not request.headers.get(f"X-{name}", "").strip()
    try:
        return None if given is None else parse(restore_plus(given) if in_query else given, zone)
    except ValueError as error:
        hint = " (in a query, + is written %2B)" if in_query and " " in (given or "") else ""
        raise bad(name, f"{error}{hint}") from None


def bad(name: str, rule: str) -> Refused:
    return Refused("BAD_PARAMETER", f"X-{name}: {rule}.")
