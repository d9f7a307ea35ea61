"""The HTTP connector as a Django view, for WSGI-only hosting and the test client:
the same rules, the same writer."""

import atexit
import contextlib
import functools
import time
from concurrent.futures import Future

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import Error
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from ingest.connectors import http
from ingest.message import Outcome, RawMessage
from ingest.record_limiter import RecordLimiter
from ingest.service import Ingest
from ingest.writer import QueueFull
from thingscale.lib.rate_limiter import RateLimiter

TOO_FAST = RecordLimiter(30, 60.0)
BAD_TOKENS = RecordLimiter(60, 60.0)


@functools.cache
def ingest() -> Ingest:
    """Started with the first request, once a process."""
    service = Ingest()
    service.start()
    atexit.register(service.stop)
    return service


@functools.cache
def pace() -> RateLimiter:
    return RateLimiter(settings.HTTP_RATE)


@csrf_exempt
@login_not_required
def connector(request: HttpRequest) -> HttpResponse:
    answer = _answer(request)
    content_type, body = answer.body(http.wants_json(request.headers.get("Accept", "").encode("latin-1")))
    return HttpResponse(body, content_type, answer.status, headers=answer.headers)


def _answer(request: HttpRequest) -> http.Answer:
    if request.method != "POST":
        return http.METHOD_NOT_ALLOWED
    try:
        token_owner = ingest().device_tokens.find(request.headers.get("X-DEVICETOKEN", "").strip(" \t"))
    except Error:
        return http.TRY_AGAIN
    headers = {
        name.lower().encode("latin-1"): value.strip(" \t").encode("latin-1")
        for name, value in request.headers.items()
    }
    if token_owner is None:
        _note_bad_token(request.path, headers)
        return http.AUTH_REQUIRED
    if refusal := http.refuse_body(headers):
        return refusal
    turn = http.check_rate(pace(), token_owner.user, headers)
    if turn.refusal and TOO_FAST.should_record(token_owner.user, http.sender(headers), time.monotonic()):
        _record(http.too_fast(request.path, token_owner.user, headers))
    return turn.on(turn.refusal or _take(request, token_owner.user, headers))


def _note_bad_token(path: str, headers: http.Headers) -> None:
    """For the list of its account, if it is one's."""
    token = headers.get(b"x-devicetoken", b"").decode("latin-1")
    user = ingest().device_tokens.whose(token)
    if user and BAD_TOKENS.should_record(user, token, time.monotonic()):
        _record(http.bad_token(path, user, headers))


def _record(message: RawMessage) -> None:
    """Of what was refused already: nobody waits for it."""
    with contextlib.suppress(QueueFull):
        ingest().writer.accept([message], lambda outcomes: None)


def _take(request: HttpRequest, user: int, headers: http.Headers) -> http.Answer:
    body = _read(request)
    if body is None:
        return http.CLIENT_GONE
    return _store(http.message(request.path, user, headers, body))


def _read(request: HttpRequest) -> bytes | None:
    """The body, cut one byte past the limit, which the writer answers; None if the client has gone. WSGI
    servers then end the body early, and half a number is a number too."""
    try:
        body = request.read(http.MAX_BODY + 1)
    except UnreadablePostError:
        return None
    stated = int(request.META.get("CONTENT_LENGTH") or 0)
    return body if len(body) >= min(stated, http.MAX_BODY + 1) else None


def _store(message: RawMessage) -> http.Answer:
    stored: Future[Outcome] = Future()
    try:
        submission = ingest().writer.accept([message], lambda outcomes: stored.set_result(outcomes[0]))
    except QueueFull:
        return http.TRY_AGAIN
    try:
        return http.answer(stored.result(settings.HTTP_STORE_SECONDS))
    except TimeoutError:
        submission.cancelled = True  # unless it is in a transaction already
        return http.TRY_AGAIN
