"""The HTTP connector's rules (docs/contract.md) without a web framework: request -> message -> answer."""

import math
import time
from collections.abc import Mapping
from typing import NamedTuple

import orjson

from ingest.decode import MAX_ARRAY
from ingest.message import Kind, Outcome, RawMessage, Reason, Status
from thingscale.lib import content_encoding
from thingscale.lib.clock import now_us
from thingscale.lib.kinds import ENDPOINTS
from thingscale.lib.names import bad_device_id, bad_tag
from thingscale.lib.rate_limiter import RateLimiter
from thingscale.lib.rates import Rate
from thingscale.lib.reasons import ANSWERS
from thingscale.streams.exactly_once import keys

KINDS = {path: kind for kind, endpoint in ENDPOINTS.items() for path in endpoint.http_paths}
SOURCES = {kind: f"http {kind.value}" for kind in KINDS.values()}
Headers = Mapping[bytes, bytes]  # by lower-case name
MAX_BODY = MAX_ARRAY  # what else may be as large is refused by decode.py, and recorded

READ_AT_ONCE = 64 * 1024  # bytes of a body


class Answer(NamedTuple):
    status: int
    code: str
    retry_after: int = 1  # seconds, where trying again can help
    rate: Rate | None = None  # of the device, if it has one
    detail: str = ""  # what to do, where answers are JSON
    held: bool = False

    @property
    def headers(self) -> dict[str, str]:
        rate = self.rate.headers if self.rate else {}
        if self.held:
            return {"X-Held": "1"} | rate
        match self.status:
            case 405:
                return {"Allow": "POST"}
            case 415:
                return {"Accept-Encoding": content_encoding.READABLE}
            case 429 | 503:
                return {"Retry-After": str(self.retry_after)} | rate
        return rate

    def body(self, as_json: bool) -> tuple[str, bytes]:
        """Content type and body."""
        if not as_json:
            return "text/plain; charset=utf-8", self.code.encode()
        word = "result" if self.status < 300 else "error"
        return "application/json", orjson.dumps(
            {word: self.code} | ({"detail": self.detail} if self.detail else {})
        )


def _refusal(reason: Reason) -> Answer:
    said = ANSWERS[reason]
    return Answer(said.http, said.code or reason.value)


AUTH_REQUIRED = _refusal(Reason.AUTH_REQUIRED)
METHOD_NOT_ALLOWED = Answer(405, "METHOD_NOT_ALLOWED")
CLIENT_GONE = _refusal(Reason.BAD_JSON_FORMAT)  # where something must be answered to nobody
LENGTH_REQUIRED = Answer(411, "LENGTH_REQUIRED")
UNSUPPORTED_ENCODING = Answer(415, "UNSUPPORTED_ENCODING")
TOO_SLOW = Answer(408, "REQUEST_TIMEOUT")
TOO_LARGE = _refusal(Reason.TOO_LARGE)
TRY_AGAIN = Answer(503, "TRY_AGAIN")
_OK = Answer(200, "OK")
_HELD = "It is held, stored once the device is enabled and mapped to a channel, and need not come again."


def kind_of(path: str) -> Kind | None:
    """How the body of a POST to this path is read; None: not the connector's path."""
    return KINDS.get(path.removesuffix("/"))


def wants_json(accept: bytes) -> bool:
    return b"application/json" in accept


def refuse_body(headers: Headers) -> Answer | None:
    """The reason to refuse a body that can be known before it is read."""
    if b"content-length" not in headers and b"transfer-encoding" not in headers:
        return LENGTH_REQUIRED
    if not content_encoding.readable(headers.get(b"content-encoding", b"")):
        return UNSUPPORTED_ENCODING
    return None


def takes_long(headers: Headers, body: bytes) -> bool:
    """Whether reading it stops the event loop for more than a moment. How large a compressed body is, one
    only knows then."""
    return len(body) > READ_AT_ONCE or not content_encoding.is_identity(headers.get(b"content-encoding", b""))


class RateDecision(NamedTuple):
    """Whether the device may send now."""

    refusal: Answer | None  # 429: it has just sent something
    rate: Rate | None

    def on(self, answer: Answer) -> Answer:
        return answer._replace(rate=self.rate) if self.rate else answer


_UNLIMITED = RateDecision(None, None)


def check_rate(limiter: RateLimiter, user: int, headers: Headers) -> RateDecision:
    """Before the body is read. A bad device id is not counted: it is refused later, with a reason, and must
    not be remembered."""
    if not limiter.rate:
        return _UNLIMITED
    device_id, refused = _device_id(headers)
    if refused:
        return _UNLIMITED
    now = time.monotonic()
    seconds = limiter.wait(user, device_id, now)
    refusal = None
    if seconds:
        refusal = _refusal(Reason.TOO_MANY_REQUESTS)._replace(retry_after=math.ceil(seconds))
    return RateDecision(refusal, Rate("device", limiter.rate, limiter.left(user, device_id, now)))


def too_fast(path: str, user: int, headers: Headers) -> RawMessage:
    """The message that is recorded when a device sends too fast. Its body is not read."""
    return message(path, user, headers, b"")._replace(
        dedupe=None, repeated=False, refused=Reason.TOO_MANY_REQUESTS
    )


def sender(headers: Headers) -> bytes:
    """The device id as it came, for RecordLimiter; a header may be of any length."""
    return headers.get(b"x-deviceid", b"")[:256]


def bad_token(path: str, user: int, headers: Headers) -> RawMessage:
    """The message that is recorded for a token of this account that is not its current device token."""
    refused = too_fast(path, user, headers)
    source = f"{refused.source}, with an API token or one that has ended"
    return refused._replace(refused=Reason.AUTH_REQUIRED, source=source)


def message(path: str, user: int, headers: Headers, body: bytes) -> RawMessage:
    """If the request is refused, the message says so, and is recorded."""
    kind = kind_of(path)
    assert kind is not None  # only our paths are routed here
    device_id, refused = _device_id(headers)
    tag = None
    if kind is Kind.JSON and not refused:
        try:
            tag = headers.get(b"x-tagname", b"").decode() or None
        except UnicodeDecodeError:
            refused = Reason.BAD_PARAMETER
        if tag and bad_tag(tag):
            tag, refused = None, Reason.BAD_PARAMETER
    encoding = headers.get(b"content-encoding", b"")
    if len(body) <= MAX_BODY and not content_encoding.is_identity(encoding):
        try:
            body = content_encoding.decode(encoding, body, MAX_BODY)
        except content_encoding.BadEncoding:
            refused = refused or Reason.BAD_JSON_FORMAT
    key = headers.get(b"idempotency-key")
    dedupe = keys.of_http(user, device_id, key) if key else None
    return RawMessage(
        user, device_id, tag, kind, body, now_us(), dedupe, dedupe is not None, refused, SOURCES[kind]
    )


def answer(outcome: Outcome) -> Answer:
    if outcome.status is Status.FAILED:
        return TRY_AGAIN
    if outcome.reason is None:  # stored, now or before
        return _OK
    said = ANSWERS[outcome.reason]
    needs_sentence = said.code or outcome.reason is Reason.IDEMPOTENCY_KEY_REUSED  # the code does not say all
    detail = _HELD if outcome.held else outcome.detail or (said.sentence if needs_sentence else "")
    return _refusal(outcome.reason)._replace(detail=detail, held=outcome.held)


def _device_id(headers: Headers) -> tuple[str, Reason | None]:
    try:
        device_id = headers.get(b"x-deviceid", b"").decode()
    except UnicodeDecodeError:
        return "", Reason.BAD_PARAMETER
    refused = bad_device_id(device_id)
    return ("", refused) if refused else (device_id, None)
