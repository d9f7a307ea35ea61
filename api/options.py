"""Options of a call: the header `X-NAME`, or else the query parameter `name` (docs/contract.md).

Each function takes the name in upper case without its `X-`, and raises ContractError BAD_PARAMETER, which
names the header. To a call that reads, an empty option is as good as none. A call that writes refuses it:
whoever deletes the tag "" must not lose the channel.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from zoneinfo import ZoneInfo

from rest_framework.request import Request

from thingscale.lib.clock import restore_plus
from thingscale.lib.errors import ContractError
from thingscale.lib.names import may_exist

WRITING = frozenset({"POST", "PUT", "DELETE"})
OPTIONS = (
    "ENDTIME",
    "STARTTIME",
    "TAGNAME",
    "PAGELIMIT",
    "PAGESORT",
    "AGGREGATE",
    "INTERVAL",
    "WITHTAG",
    "DEVICEID",
    "WITHDEVICE",
    "SPREADSHEET",
    "SEP",
    "FORMAT",
    "EVENTID",
    "STATE",
    "BEFORE",
)
SEPARATORS = {",": ",", ";": ";", "comma": ",", "semicolon": ";", "tab": "\t"}


def check_write(request: Request, known: Collection[str]) -> None:
    """Refuses a call that would do more than it may mean: one with an empty option, with an option that the
    call does not know, or a DELETE with a body."""
    for name in OPTIONS:
        header = request.headers.get(f"X-{name}")
        if header is not None and not header.strip():
            raise bad(name, "is empty: give it a value, or leave it out")
        if header is not None and request.method == "DELETE" and name not in known:
            raise bad(name, "is no option of this call, which would delete more: leave it out")
    if request.headers.get("Idempotency-Key", "-").strip() == "":
        raise ContractError("BAD_PARAMETER", "Idempotency-Key: is empty: give it a value, or leave it out.")
    for parameter, values in request.query_params.lists():
        if parameter not in {name.lower() for name in known}:
            raise ContractError(
                "BAD_PARAMETER", f"This call has no query parameter {parameter[:64]!r}: leave it out."
            )
        if len(values) > 1:
            raise bad(parameter.upper(), "is there twice: give one")
        if not values[0]:
            raise bad(parameter.upper(), "is empty: give it a value, or leave it out")
    if request.method == "DELETE" and request.headers.get("Content-Length") not in {None, "", "0"}:
        raise ContractError(
            "BAD_PARAMETER", "A DELETE has no body: say what to delete in the path and in options."
        )


def text(request: Request, name: str) -> str | None:
    header = _utf8(request.headers.get(f"X-{name}", ""))
    return (header or request.query_params.get(name.lower(), "")).strip() or None


def _utf8(header: str) -> str:
    """Clients send UTF-8, and WSGI decodes it as Latin-1."""
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


def whole_number(request: Request, name: str, default: int, low: int, high: int) -> int:
    given = text(request, name) or str(default)
    if not (given.isascii() and given.isdigit() and len(given) < 19 and low <= int(given) <= high):
        raise bad(name, f"must be a whole number from {low} to {high}")
    return int(given)


def name_of(request: Request, name: str) -> str | None:
    """A tag or a device id. White space around a header is not part of its value. A query parameter is taken
    exactly: older names with white space at an end can be read, renamed and deleted by it."""
    header = _utf8(request.headers.get(f"X-{name}", "").strip(" \t"))
    given = header or request.query_params.get(name.lower(), "")
    if given and not may_exist(given):
        raise bad(name, "can't be a name: it has / + # or control characters, or is too long")
    return given or None


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


def bad(name: str, rule: str) -> ContractError:
    return ContractError("BAD_PARAMETER", f"X-{name}: {rule}.")
