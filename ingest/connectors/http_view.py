"""The HTTP connector and intakes as Django views, for WSGI-only hosting and the test client:
the same rules, the same writer."""

import atexit
import contextlib
import functools
import threading
import time
from concurrent.futures import Future
from typing import NamedTuple

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import Error
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from ingest.connectors import http
from ingest.connectors.intake import view
from ingest.connectors.intake.exchange import Intakes
from ingest.connectors.intake.routes import route
from ingest.message import Outcome, RawMessage
from ingest.record_limiter import RecordLimiter
from ingest.service import Ingest
from ingest.writer import QueueFull
from thingscale.lib.rate_limiter import RateLimiter
from thingscale.web.wsgi_request import headers_of, read_body

TOO_FAST = RecordLimiter(30, 60.0)
BAD_TOKENS = RecordLimiter(60, 60.0)


_starting = threading.Lock()


class Service(NamedTuple):
    """What a process has once: it starts with the first request."""

    ingest: Ingest
    intakes: Intakes

    def stop(self) -> None:
        self.ingest.stop()
        self.intakes.log.stop()
        atexit.unregister(self.stop)
        _start.cache_clear()


@functools.cache
def _start() -> Service:
    intakes = Intakes()
    service = Service(Ingest(on_change=intakes.cache.on_change), intakes)
    service.ingest.start()
    service.intakes.log.start()
    atexit.register(service.stop)
    return service


def service() -> Service:
    with _starting:
        return _start()


def ingest() -> Ingest:
    return service().ingest


@functools.cache
def rate_limiter() -> RateLimiter:
    return RateLimiter(settings.HTTP_RATE)


@csrf_exempt
@login_not_required
def connector(request: HttpRequest) -> HttpResponse:
    answer = _answer(request)
    content_type, body = answer.body(http.wants_json(request.headers.get("Accept", "").encode("latin-1")))
    return HttpResponse(body, content_type, answer.status, headers=answer.headers)


@csrf_exempt
@login_not_required
def intake(request: HttpRequest) -> HttpResponse:
    found = route(request.path)
    if found is None:
        raise Http404
    return view.respond(request, found, service().intakes, ingest())


def _answer(request: HttpRequest) -> http.Answer:
    if request.method != "POST":
        return http.METHOD_NOT_ALLOWED
    path, token = request.path, request.headers.get("X-DEVICETOKEN", "").strip(" \t")
    try:
        token_owner = ingest().device_tokens.find(token)
    except Error:
        return http.TRY_AGAIN
    headers = headers_of(request)
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
    body = read_body(request, headers, http.MAX_BODY)
    if body is None:
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
