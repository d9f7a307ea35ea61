"""Intakes as a Django view, for WSGI-only hosting and the test client."""

from concurrent.futures import Future

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from ingest.connectors.intake.exchange import IntakeExchange, Intakes
from ingest.connectors.intake.request import CLIENT_GONE, TRY_AGAIN, IntakeAnswer
from ingest.connectors.intake.routes import Route
from ingest.message import Outcome
from ingest.service import Ingest
from ingest.writer import QueueFull
from thingscale.intakes.formats.readings import MAX_BODY
from thingscale.web.wsgi_request import headers_of, read_body


def respond(request: HttpRequest, found: Route, intakes: Intakes, ingest: Ingest) -> HttpResponse:
    answer = _answer(request, found, intakes, ingest)
    response = HttpResponse(answer.body, answer.content_type or None, answer.status, headers=answer.headers)
    if not answer.content_type:
        del response["Content-Type"]
    return response


def _answer(request: HttpRequest, found: Route, intakes: Intakes, ingest: Ingest) -> IntakeAnswer:
    headers = headers_of(request)
    query = request.META.get("QUERY_STRING", "").encode("latin-1")
    exchange = IntakeExchange(intakes, ingest, found, request.method or "", query, headers)
    if answer := exchange.at_once():
        return answer
    if answer := exchange.admit(exchange.cached() or exchange.look_up()):
        return answer
    body = read_body(request, headers, MAX_BODY)
    if body is None:
        return exchange.refused(CLIENT_GONE)
    stored: Future[list[Outcome]] = Future()
    try:
        submitted = exchange.submit(body, stored.set_result)
    except QueueFull:
        return exchange.refused(TRY_AGAIN)
    if answer := exchange.unless_stored(submitted):
        return answer
    try:
        outcomes = stored.result(settings.HTTP_STORE_SECONDS)
    except TimeoutError:
        assert submitted.submission is not None
        submitted.submission.cancelled = True  # unless it is in a transaction already
        return exchange.refused(TRY_AGAIN)
    return exchange.answer(submitted, outcomes)
