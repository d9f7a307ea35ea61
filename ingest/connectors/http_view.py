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
def rate_limiter() -> RateLimiter:
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
    path, token = request.path, request.headers.get("X-DEVICETOKEN", "").strip(" \t")
    try:
        token_owner = ingest().device_tokens.find(token)
    except Error:
        return http.TRY_AGAIN
    headers = {
        name.lower().encode("latin-1"): value.strip(" \t").encode("latin-1")
        for name, value in request.headers.items()
    }
    if token_owner is None:
        of_account = ingest().device_tokens.whose(token)
        if of_account and BAD_TOKENS.should_record(of_account, token, time.monotonic()):
            _record(http.bad_token(path, of_account, headers))
        return http.AUTH_REQUIRED
    user = token_owner.user
    if refusal := http.refuse_body(headers):
        return refusal
    decision = http.check_rate(rate_limiter(), user, headers)
    if decision.refusal:
        if TOO_FAST.should_record(user, http.sender(headers), time.monotonic()):
            _record(http.too_fast(path, user, headers))
        return decision.on(decision.refusal)
    try:
        body = request.read(http.MAX_BODY + 1)  # one byte past the limit, which the writer answers
    except UnreadablePostError:
        return decision.on(http.CLIENT_GONE)
    # WSGI servers end the body early when the client has gone, and half a number is a number, too.
    stated = int(request.META.get("CONTENT_LENGTH") or 0)
    if len(body) < min(stated, http.MAX_BODY + 1):
        return decision.on(http.CLIENT_GONE)
    return decision.on(_store(http.message(path, user, headers, body)))


def _record(message: RawMessage) -> None:
    """A request that was refused already, so that nobody waits for its outcome."""
    with contextlib.suppress(QueueFull):
        ingest().writer.accept([message], lambda outcomes: None)


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
