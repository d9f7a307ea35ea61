"""A request to an intake, and an answer, without a web framework. Pure."""

import binascii
from base64 import b64decode
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl

import orjson

from ingest.intake_messages import Taken
from thingscale.intakes.formats.readings import MAX_BODY, BadBody, Reading
from thingscale.lib import content_encoding
from thingscale.lib.reasons import ANSWERS, Reason

Headers = Mapping[bytes, bytes]  # by lower-case name
MAX_QUERY_FIELDS = 50


LEFT_OUT = "left out"  # among the counts: what had no number to store, of no device


class IntakeRequest(NamedTuple):
    method: str
    endpoint: str  # the path behind the key, or as it is: /api/v2/write; of a mapped intake it is empty
    query: Mapping[str, str]
    headers: Headers
    device_id: str = ""  # that the URL names
    options: Mapping[str, Any] = {}  # of the intake
    preset: str = ""  # and its mapping, compiled
    mapping: Any = None
    # What `read` counts for the answer: by what the sender calls it, then by device.
    counts: dict[str, Mapping[str, int]] | None = None


class IntakeAnswer(NamedTuple):
    status: int
    body: bytes = b""
    content_type: str = ""
    headers: Mapping[str, str] = {}


class Refusal(NamedTuple):
    """Why nothing, or not all, is stored. Each format has its own form for it."""

    status: int
    code: str  # as the HTTP connector's: BAD_PARAMETER
    detail: str
    retry_after: int = 0  # seconds, where trying again can help
    devices: frozenset[str] = frozenset()  # of which nothing is stored, where others are


class Door(Protocol):
    """One format's."""

    def constant(self, request: IntakeRequest) -> IntakeAnswer | None:
        """The answer to what stores nothing and needs no token, such as GET /ping."""

    def read(self, request: IntakeRequest, body: bytes, now: int) -> list[Reading]:
        """Of the body as it came, but for its Content-Encoding. Raises BadBody."""

    def stored(self, request: IntakeRequest, count: int) -> IntakeAnswer:
        """To what is stored or held: so many readings."""

    def refused(self, request: IntakeRequest, refusal: Refusal, count: int = 0) -> IntakeAnswer:
        """`count` readings are stored all the same: those of other devices."""


class Credential(StrEnum):
    """Where a device token was found."""

    NONE = ""
    HEADER = "header"
    BASIC = "basic"
    QUERY = "query"


NO_TOKEN = "", Credential.NONE


def device_token(headers: Headers, query: Mapping[str, str]) -> tuple[str, Credential]:
    """`Token T`, `Bearer T`, the password of Basic, X-DEVICETOKEN, or `p=T` as InfluxDB 1 has it."""
    if own := headers.get(b"x-devicetoken"):
        return own.decode("latin-1"), Credential.HEADER
    scheme, _, rest = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    rest = rest.strip()
    match scheme.lower():
        case "token" | "bearer":  # InfluxDB's 1.8 takes `Token user:password`
            return rest.rpartition(":")[2], Credential.HEADER
        case "basic":
            try:
                return b64decode(rest, validate=True).decode().partition(":")[2], Credential.BASIC
            except (binascii.Error, UnicodeDecodeError):
                return NO_TOKEN
    if token := query.get("p", ""):
        return token, Credential.QUERY
    return NO_TOKEN


def query_of(query_string: bytes) -> dict[str, str]:
    """The first value of each field. Raises ValueError if there are too many."""
    pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    return dict(reversed(pairs))


def refusal_of(reason: Reason, detail: str = "") -> Refusal:
    said = ANSWERS[reason]
    status = 400 if said.held or said.http < 400 else said.http
    return Refusal(status, said.code or reason.value, detail or said.sentence)


def refusal_of_body(bad: BadBody) -> Refusal:
    return refusal_of(bad.reason, bad.detail)


def refusal_of_taken(taken: Taken) -> Refusal | None:
    """None: all is stored or held."""
    if taken.failed:
        return TRY_AGAIN
    if taken.reason is None:
        return None
    refusal = refusal_of(taken.reason, f"Device {taken.device_id}: {taken.detail}")
    # In part: no status that makes the sender repeat all for ever, or give up its token.
    return refusal._replace(status=400, devices=taken.refused) if taken.stored else refusal


def unpacked(headers: Headers, body: bytes, limit: int) -> bytes:
    """Raises BadBody."""
    try:
        whole = content_encoding.decode(headers.get(b"content-encoding", b""), body, limit)
    except content_encoding.BadEncoding as error:
        raise BadBody(Reason.BAD_JSON_FORMAT, str(error)) from None
    if len(whole) > limit:
        raise BadBody(
            Reason.TOO_LARGE, f"A body has at most {limit // 2**20} MiB unpacked: send less at once."
        )
    return whole


def json_answer(status: int, value: Any, headers: Mapping[str, str] = {}) -> IntakeAnswer:
    return IntakeAnswer(status, orjson.dumps(value), "application/json", headers)


def too_many(seconds: int) -> Refusal:
    detail = "The account sends more datapoints a second than it may: wait as long as Retry-After says."
    return Refusal(429, "TOO_MANY_REQUESTS", detail, retry_after=seconds)


def retry_headers(refusal: Refusal) -> dict[str, str]:
    if refusal.status == 415:
        return {"Accept-Encoding": content_encoding.READABLE}
    return {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else {}


METHOD_NOT_ALLOWED = Refusal(405, "METHOD_NOT_ALLOWED", "It takes POST only.")
LENGTH_REQUIRED = Refusal(411, "LENGTH_REQUIRED", "A body has a Content-Length, or comes in chunks.")
UNSUPPORTED_ENCODING = Refusal(
    415,
    "UNSUPPORTED_ENCODING",
    f"A body may be compressed with {content_encoding.READABLE}, with one of them.",
)
CLIENT_GONE = Refusal(400, "BAD_JSON_FORMAT", "The body ended early.")  # said to nobody
TOO_SLOW = Refusal(408, "REQUEST_TIMEOUT", "The body did not come in time.")
TOO_LARGE = Refusal(413, "TOO_LARGE", f"A body has at most {MAX_BODY // 2**20} MiB: send less at once.")
TRY_AGAIN = Refusal(503, "TRY_AGAIN", "Nothing of it is stored: send it again.", retry_after=1)
UNKNOWN_KEY = Refusal(
    401, "AUTH_REQUIRED", "No intake has this key: the console shows the URL when it is made or renewed."
)
AUTH_REQUIRED = Refusal(
    401,
    "AUTH_REQUIRED",
    "Give the device token as Token, Bearer, Basic's password or p=, or use the URL of an intake.",
)
OTHER_FORMAT = Refusal(404, "NOT_FOUND", "This intake is of another format: its page shows the URL to use.")
FOREIGN_PAGE = Refusal(403, "FORBIDDEN", "A page of another origin can't use a password that a browser kept.")
