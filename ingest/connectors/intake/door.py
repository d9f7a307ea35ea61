"""Intakes as an ASGI application, beside the HTTP connector, in its event loop and with its writer."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from django.conf import settings
from django.db import Error

from ingest import intake_messages
from ingest.connectors import http
from ingest.connectors.intake import influx, mapped, otlp, prometheus
from ingest.connectors.intake.point_rate import NOT_STORED, PointRate
from ingest.connectors.intake.request import (
    AUTH_REQUIRED,
    FOREIGN_PAGE,
    LENGTH_REQUIRED,
    METHOD_NOT_ALLOWED,
    OTHER_FORMAT,
    TOO_LARGE,
    TOO_SLOW,
    TRY_AGAIN,
    UNKNOWN_KEY,
    UNSUPPORTED_ENCODING,
    Credential,
    Door,
    IntakeAnswer,
    IntakeRequest,
    Refusal,
    device_token,
    query_of,
    refusal_of_body,
    refusal_of_taken,
    too_many,
    unpacked,
)
from ingest.connectors.intake.routes import FORMATS, PRESETS, Route, route
from ingest.device_tokens import TokenOwner
from ingest.intake_cache import OWN_PATHS, IntakeCache, KnownIntake
from ingest.intake_log import IntakeLog
from ingest.message import Outcome, RawMessage, Status
from ingest.record_limiter import RecordLimiter
from ingest.writer import Done, QueueFull, Submission
from thingscale.intakes.formats.readings import MAX_BODY, BadBody, Reading
from thingscale.intakes.messages import Note
from thingscale.intakes.models import Intake, IntakeMessage
from thingscale.intakes.presets import presets
from thingscale.lib import content_encoding
from thingscale.lib.clock import now, now_us
from thingscale.lib.ids import IntakePk
from thingscale.web.body_room import NoRoom
from thingscale.web.fair_semaphore import Busy
from thingscale.web.request_body import Receive, Scope, Send

if TYPE_CHECKING:
    from ingest.connectors.http_asgi import HttpConnector

BODY_SECONDS = 30
SNAPPY = b"snappy"
DOORS: Mapping[Intake.Format, Door] = {
    Intake.Format.INFLUX: influx,
    Intake.Format.MAPPED: mapped,
    Intake.Format.OTLP: otlp,
    Intake.Format.PROMETHEUS: prometheus,
}
_PLAIN = mapped  # in whose form it is said that nothing has this key


T = TypeVar("T")


class Submitted(NamedTuple):
    body: bytes  # unpacked, if it can be
    readings: list[Reading] = []
    messages: list[RawMessage] = []
    submission: Submission | None = None  # None: there is nothing to store
    bad: BadBody | None = None  # why it can't be read
    wait: float = 0.0  # seconds until it may come


class IntakeDoor:
    def __init__(self, connector: "HttpConnector") -> None:
        self._connector = connector
        self.cache = IntakeCache()
        self.log = IntakeLog()
        self._rate = PointRate(settings.INTAKE_RATE)
        self._records = RecordLimiter(30, 60.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = route(scope["path"])
        assert found is not None  # only their paths come here
        answer = await self._answer(found, scope, receive)
        if answer is None:
            return
        headers = dict(answer.headers)
        if answer.status != 204:  # which has no length
            headers["content-length"] = str(len(answer.body))
        if answer.content_type:
            headers["content-type"] = answer.content_type
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, found: Route, scope: Scope, receive: Receive) -> IntakeAnswer | None:
        """None if the client has gone."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        door = DOORS[Intake.Format(FORMATS[found.endpoint])] if found.endpoint else _PLAIN
        try:
            query = query_of(scope["query_string"])
        except ValueError:
            query = {}
        request = IntakeRequest(scope["method"], found.endpoint, query, headers, found.device_id, counts={})
        if constant := door.constant(request):
            return constant
        if request.method != "POST":
            return door.refused(request, METHOD_NOT_ALLOWED)
        intake = await self._intake(found, request)
        if isinstance(intake, Refusal):
            return door.refused(request, intake)
        door = DOORS[intake.format]
        request = request._replace(options=intake.options, preset=intake.preset, mapping=intake.mapping)
        if found.endpoint and FORMATS[found.endpoint] != intake.format:
            return door.refused(request, OTHER_FORMAT)
        if refusal := self._refuse_body(intake, headers):
            return door.refused(request, refusal)
        try:
            reading = self._connector.bodies.read(intake.user, receive, MAX_BODY)
            body = await self._connector.timeouts.wait_for(BODY_SECONDS, reading)
        except TimeoutError:
            return door.refused(request, TOO_SLOW)
        except NoRoom:
            return door.refused(request, TRY_AGAIN)
        return None if body is None else await self._store(door, request, intake, body)

    async def _intake(self, found: Route, request: IntakeRequest) -> KnownIntake | Refusal:
        if found.key is not None:
            known, intake = self.cache.cached(found.key)
            try:
                if not known:
                    intake = await self._look_up(self.cache.find, found.key)
            except (Error, TimeoutError):
                return TRY_AGAIN
            return intake or UNKNOWN_KEY
        token, where = device_token(request.headers, request.query)
        if where is Credential.BASIC and b"origin" in request.headers:
            return FOREIGN_PAGE
        tokens = self._connector.ingest.device_tokens
        owner = tokens.cached(token)
        try:
            if owner is None:
                owner = await self._look_up(tokens.find, token)
        except (Error, TimeoutError):
            return TRY_AGAIN
        if not isinstance(owner, TokenOwner):
            return AUTH_REQUIRED
        format_ = Intake.Format(FORMATS[found.endpoint])
        preset = PRESETS.get(found.endpoint, "")
        mapping = presets()[preset].compiled if preset else None
        return KnownIntake(
            OWN_PATHS, owner.user, format_, preset or format_.value, {}, mapping, preset, rate=None
        )

    async def _look_up(self, find: Callable[[str], T], key: str) -> T:
        found = asyncio.get_running_loop().run_in_executor(self._connector.lookups, find, key)
        return await self._connector.timeouts.wait_for(settings.HTTP_STORE_SECONDS, found)

    def _refuse_body(self, intake: KnownIntake, headers: Mapping[bytes, bytes]) -> Refusal | None:
        """What can be known before the body is read."""
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            return LENGTH_REQUIRED
        if int(headers.get(b"content-length", b"0")) > MAX_BODY:
            return TOO_LARGE
        encoding = headers.get(b"content-encoding", b"")
        snappy = encoding == SNAPPY and intake.format == Intake.Format.PROMETHEUS
        if not (snappy or content_encoding.readable(encoding)):
            return UNSUPPORTED_ENCODING
        if wait := self._rate.wait(intake.user, intake.pk, intake.rate, time.monotonic()):
            return too_many(math.ceil(wait))
        return None

    async def _store(
        self, door: Door, request: IntakeRequest, intake: KnownIntake, body: bytes
    ) -> IntakeAnswer:
        """Answers after COMMIT."""
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[list[Outcome]] = loop.create_future()

        def done(outcomes: list[Outcome]) -> None:
            if not stored.done():
                stored.set_result(outcomes)

        submit = partial(self._submit, door, request, intake, done)
        try:
            # How long a mapping takes, its body does not tell; nor how large it is, if Snappy has packed it.
            aside = intake.mapping is not None or intake.format == Intake.Format.PROMETHEUS
            if aside or http.takes_long(request.headers, body):
                never: asyncio.Future[None] = loop.create_future()
                submitted = await self._connector.large.read(
                    intake.user, body, never, submit, settings.HTTP_STORE_SECONDS
                )
            else:
                submitted = submit(body)
        except (QueueFull, Busy):
            return door.refused(request, TRY_AGAIN)
        body, readings, messages, submission, bad, wait = submitted
        if wait:
            return door.refused(request, too_many(math.ceil(wait)))
        if bad:
            refusal = refusal_of_body(bad)
            self._record(intake, body, bad)
            self._note(intake, request, body, (), IntakeMessage.Outcome.REJECTED, refusal)
            return door.refused(request, refusal)
        if submission is None:
            self._note(intake, request, body, (), IntakeMessage.Outcome.NOTHING)
            return door.stored(request, 0)
        try:
            outcomes = await self._connector.timeouts.wait_for(settings.HTTP_STORE_SECONDS, stored)
        except TimeoutError:
            submission.cancelled = True  # unless it is in a transaction already
            return door.refused(request, TRY_AGAIN)
        kept = sum(outcome.status is not Status.REJECTED and not outcome.held for outcome in outcomes)
        self._rate.give_back(intake.user, intake.pk, intake.rate, NOT_STORED * kept, time.monotonic())
        if refused := refusal_of_taken(taken := intake_messages.taken(messages, outcomes)):
            if not taken.failed:
                self._note(intake, request, body, readings, IntakeMessage.Outcome.REJECTED, refused)
            return door.refused(request, refused, taken.stored)
        held = any(outcome.held for outcome in outcomes)
        outcome = IntakeMessage.Outcome.HELD if held else IntakeMessage.Outcome.STORED
        self._note(intake, request, body, readings, outcome)
        return door.stored(request, len(readings))

    def _submit(
        self, door: Door, request: IntakeRequest, intake: KnownIntake, done: Done, body: bytes
    ) -> Submitted:
        """In a thread, if it takes long. Raises QueueFull."""
        received_at = now_us()
        try:
            if request.headers.get(b"content-encoding") != SNAPPY:  # which Prometheus' format unpacks
                body = unpacked(request.headers, body, MAX_BODY)
            readings = intake_messages.read(lambda body: door.read(request, body, received_at), body)
            messages = intake_messages.messages(intake.user, intake.source, readings, received_at)
        except BadBody as bad:
            return Submitted(body, bad=bad)
        if not messages:
            return Submitted(body, readings)
        # What becomes of the devices is not known yet: those that are stored are given back.
        points = len(readings) + NOT_STORED * len(messages)
        wait = self._rate.take(intake.user, intake.pk, intake.rate, points, time.monotonic())
        if wait:  # others have come since it began
            return Submitted(body, wait=wait)
        try:
            submission = self._connector.ingest.writer.accept(messages, done)
        except QueueFull:
            self._rate.give_back(intake.user, intake.pk, intake.rate, points, time.monotonic())
            raise
        return Submitted(body, readings, messages, submission)

    def _record(self, intake: KnownIntake, body: bytes, bad: BadBody) -> None:
        """In the account's list of rejected messages."""
        sender, at = (intake.pk, bad.detail), asyncio.get_running_loop().time()
        if self._records.should_record(intake.user, sender, at):
            message = intake_messages.refused(intake.user, intake.source, body, bad, now_us())
            with contextlib.suppress(QueueFull):
                self._connector.ingest.writer.accept([message], lambda outcomes: None)

    def _note(  # noqa: PLR0913, PLR0917  (what the intake's page shows)
        self,
        intake: KnownIntake,
        request: IntakeRequest,
        body: bytes,
        readings: Sequence[Reading],
        outcome: IntakeMessage.Outcome,
        refusal: Refusal | None = None,
    ) -> None:
        """Among the last messages of the intake."""
        if intake.pk == OWN_PATHS or not self.log.wants(intake.pk, outcome):
            return
        self.log.note(
            Note.of(
                IntakePk(intake.pk),
                now(),
                f"{request.method} /in/.../{request.endpoint.removeprefix('/') or request.device_id}",
                {name.decode("latin-1"): text.decode("latin-1") for name, text in request.headers.items()},
                body,
                readings,
                outcome,
                refusal.code if refusal else "",
                refusal.detail if refusal else "",
            )
        )
