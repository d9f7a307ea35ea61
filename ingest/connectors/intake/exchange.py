"""One request to an intake, step by step, without a web framework: both adapters, ASGI (door.py) and Django's
view (view.py), take these steps in this order. Some block; none waits for a socket."""

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from django.conf import settings
from django.db import Error

from ingest import intake_messages
from ingest.connectors import http
from ingest.connectors.intake import influx, mapped, otlp, prometheus
from ingest.connectors.intake.request import (
    AUTH_REQUIRED,
    FOREIGN_PAGE,
    LEFT_OUT,
    LENGTH_REQUIRED,
    METHOD_NOT_ALLOWED,
    OTHER_FORMAT,
    TOO_LARGE,
    TRY_AGAIN,
    UNKNOWN_KEY,
    UNSUPPORTED_ENCODING,
    Credential,
    Door,
    Headers,
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
from ingest.connectors.intake.routes import FORMATS, PRESETS, Route, with_endpoint
from ingest.device_tokens import TokenOwner
from ingest.intake_cache import OWN_PATHS, IntakeCache, KnownIntake
from ingest.intake_log import IntakeLog
from ingest.message import Outcome, RawMessage, Status
from ingest.point_rate import NOT_STORED, PointRate
from ingest.record_limiter import RecordLimiter
from ingest.service import Ingest
from ingest.writer import Done, QueueFull, Submission
from thingscale.intakes.formats.readings import MAX_BODY, BadBody, Reading
from thingscale.intakes.messages import Note
from thingscale.intakes.models import Intake, IntakeMessage
from thingscale.intakes.presets import presets
from thingscale.lib import content_encoding
from thingscale.lib.clock import now, now_us
from thingscale.lib.ids import IntakePk

SNAPPY = b"snappy"
DOORS: Mapping[Intake.Format, Door] = {
    Intake.Format.INFLUX: influx,
    Intake.Format.MAPPED: mapped,
    Intake.Format.OTLP: otlp,
    Intake.Format.PROMETHEUS: prometheus,
}
_PLAIN = mapped  # in whose form it is said that nothing has this key


class Intakes:
    """What all requests of a process share."""

    def __init__(self) -> None:
        self.cache = IntakeCache()
        self.log = IntakeLog()
        self.rate = PointRate(settings.INTAKE_RATE)
        self.records = RecordLimiter(30, 60.0)


class Submitted(NamedTuple):
    body: bytes  # unpacked, if it can be
    readings: list[Reading] = []
    messages: list[RawMessage] = []
    submission: Submission | None = None  # None: there is nothing to store
    bad: BadBody | None = None  # why it can't be read
    wait: float = 0.0  # seconds until it may come


class IntakeExchange:
    def __init__(  # noqa: PLR0913, PLR0917  (who answers, and what is asked)
        self,
        intakes: Intakes,
        ingest: Ingest,
        found: Route,
        method: str,
        query_string: bytes,
        headers: Headers,
    ) -> None:
        self._intakes, self._ingest, self._found = intakes, ingest, found
        try:
            query = query_of(query_string)
        except ValueError:
            query = {}
        self._request = IntakeRequest(method, found.endpoint, query, headers, found.device_id, counts={})
        self._door = DOORS[Intake.Format(FORMATS[found.endpoint])] if found.endpoint else _PLAIN
        self._intake: KnownIntake | None = None  # once it is admitted

    @property
    def user(self) -> int:
        assert self._intake is not None
        return self._intake.user

    def at_once(self) -> IntakeAnswer | None:
        """The answer to what stores nothing, and for which nobody is looked up."""
        if constant := self._door.constant(self._request):
            return constant
        if self._request.method == "POST":
            return None
        # /in/KEY/DEVICE_ID/ping: nothing but InfluxDB's clients asks by GET.
        found = with_endpoint(self._found)
        asked = self._request._replace(endpoint=found.endpoint)
        return influx.constant(asked) or self.refused(METHOD_NOT_ALLOWED)

    def cached(self) -> KnownIntake | Refusal | None:
        """Whose it is. None: only the database can tell."""
        key = self._found.key
        if key is not None:
            known, intake = self._intakes.cache.cached(key)
            return (intake or UNKNOWN_KEY) if known else None
        token, where = device_token(self._request.headers, self._request.query)
        if where is Credential.BASIC and b"origin" in self._request.headers:
            return FOREIGN_PAGE
        owner = self._ingest.device_tokens.cached(token)
        return None if owner is None else self._by_token(owner)

    def look_up(self) -> KnownIntake | Refusal:
        """Blocks."""
        try:
            if self._found.key is not None:
                return self._intakes.cache.find(self._found.key) or UNKNOWN_KEY
            token, _ = device_token(self._request.headers, self._request.query)
            return self._by_token(self._ingest.device_tokens.find(token))
        except Error:
            return TRY_AGAIN

    def _by_token(self, owner: object) -> KnownIntake | Refusal:
        if not isinstance(owner, TokenOwner):
            return AUTH_REQUIRED
        endpoint = self._found.endpoint
        preset = PRESETS.get(endpoint, "")
        mapping = presets()[preset].compiled if preset else None
        format_ = Intake.Format(FORMATS[endpoint])
        source = preset or format_.value
        return KnownIntake(OWN_PATHS, owner.user, format_, source, {}, mapping, preset, rate=None)

    def admit(self, intake: KnownIntake | Refusal) -> IntakeAnswer | None:
        """None: its body may come."""
        if isinstance(intake, Refusal):
            return self.refused(intake)
        found = self._found if intake.format is Intake.Format.MAPPED else with_endpoint(self._found)
        if found.endpoint and FORMATS[found.endpoint] != intake.format:
            return DOORS[intake.format].refused(self._request, OTHER_FORMAT)
        self._intake, self._door = intake, DOORS[intake.format]
        self._request = self._request._replace(
            endpoint=found.endpoint,
            device_id=found.device_id,
            options=intake.options,
            preset=intake.preset,
            mapping=intake.mapping,
        )
        if constant := self._door.constant(self._request):
            return constant
        refusal = self._refuse_body(intake)
        return self.refused(refusal) if refusal else None

    def _refuse_body(self, intake: KnownIntake) -> Refusal | None:
        """What can be known before the body is read."""
        headers = self._request.headers
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            return LENGTH_REQUIRED
        if int(headers.get(b"content-length", b"0")) > MAX_BODY:
            return TOO_LARGE
        encoding = headers.get(b"content-encoding", b"")
        snappy = encoding == SNAPPY and intake.format == Intake.Format.PROMETHEUS
        if not (snappy or content_encoding.readable(encoding)):
            return UNSUPPORTED_ENCODING
        if wait := self._intakes.rate.wait(intake.user, intake.pk, intake.rate, time.monotonic()):
            return too_many(math.ceil(wait))
        return None

    def takes_long(self, body: bytes) -> bool:
        """Whether to read it stops an event loop. How long a mapping takes, its body does not tell; nor how
        large it is, if Snappy has packed it."""
        assert self._intake is not None
        aside = self._intake.mapping is not None or self._intake.format == Intake.Format.PROMETHEUS
        return aside or http.takes_long(self._request.headers, body)

    def submit(self, body: bytes, done: Done) -> Submitted:
        """In a thread, if it takes long. `done` is called if there is a submission, after COMMIT. Raises
        QueueFull."""
        assert self._intake is not None
        intake, request, received_at = self._intake, self._request, now_us()
        try:
            if request.headers.get(b"content-encoding") != SNAPPY:  # which Prometheus' format unpacks
                body = unpacked(request.headers, body, MAX_BODY)
            readings = intake_messages.read(lambda body: self._door.read(request, body, received_at), body)
            messages = intake_messages.messages(intake.user, intake.source, readings, received_at)
        except BadBody as bad:
            return Submitted(body, bad=bad)
        if not messages:
            return Submitted(body, readings)
        # What becomes of the devices is not known yet: those that are stored are given back.
        rate, points = self._intakes.rate, len(readings) + NOT_STORED * len(messages)
        wait = rate.take(intake.user, intake.pk, intake.rate, points, time.monotonic())
        if wait:  # others have come since it began
            return Submitted(body, wait=wait)
        try:
            submission = self._ingest.writer.accept(messages, done)
        except QueueFull:
            rate.give_back(intake.user, intake.pk, intake.rate, points, time.monotonic())
            raise
        return Submitted(body, readings, messages, submission)

    def unless_stored(self, submitted: Submitted) -> IntakeAnswer | None:
        """None: the answer is known once it is committed."""
        if submitted.wait:
            return self.refused(too_many(math.ceil(submitted.wait)))
        if submitted.bad:
            refusal = refusal_of_body(submitted.bad)
            self._record(submitted.body, submitted.bad)
            self._note(submitted.body, (), IntakeMessage.Outcome.REJECTED, refusal)
            return self.refused(refusal)
        if submitted.submission is None:
            self._note(submitted.body, (), IntakeMessage.Outcome.NOTHING)
            return self._door.stored(self._request, 0)
        return None

    def answer(self, submitted: Submitted, outcomes: list[Outcome]) -> IntakeAnswer:
        assert self._intake is not None
        intake, body, readings, messages = (
            self._intake,
            submitted.body,
            submitted.readings,
            submitted.messages,
        )
        kept = sum(outcome.status is not Status.REJECTED and not outcome.held for outcome in outcomes)
        self._intakes.rate.give_back(intake.user, intake.pk, intake.rate, NOT_STORED * kept, time.monotonic())
        if refused := refusal_of_taken(taken := intake_messages.taken(messages, outcomes)):
            if not taken.failed:
                self._note(body, readings, IntakeMessage.Outcome.REJECTED, refused)
            return self._door.refused(self._request, refused, taken.stored)
        held = any(outcome.held for outcome in outcomes)
        outcome = IntakeMessage.Outcome.HELD if held else IntakeMessage.Outcome.STORED
        self._note(body, readings, outcome)
        return self._door.stored(self._request, len(readings))

    def refused(self, refusal: Refusal) -> IntakeAnswer:
        return self._door.refused(self._request, refusal)

    def _record(self, body: bytes, bad: BadBody) -> None:
        """In the account's list of rejected messages."""
        assert self._intake is not None
        user, pk = self._intake.user, self._intake.pk
        if self._intakes.records.should_record(user, (pk, bad.detail), time.monotonic()):
            message = intake_messages.refused(user, self._intake.source, body, bad, now_us())
            with contextlib.suppress(QueueFull):
                self._ingest.writer.accept([message], lambda outcomes: None)

    def _note(
        self,
        body: bytes,
        readings: Sequence[Reading],
        outcome: IntakeMessage.Outcome,
        refusal: Refusal | None = None,
    ) -> None:
        """Among the last messages of the intake, which its page shows."""
        assert self._intake is not None
        pk, request = self._intake.pk, self._request
        if pk == OWN_PATHS or not self._intakes.log.wants(pk, outcome):
            return
        behind_the_key = "/".join(filter(None, (request.device_id, request.endpoint.removeprefix("/"))))
        self._intakes.log.note(
            Note.of(
                IntakePk(pk),
                now(),
                f"{request.method} /in/.../{behind_the_key}",
                {name.decode("latin-1"): text.decode("latin-1") for name, text in request.headers.items()},
                body,
                readings,
                outcome,
                refusal.code if refusal else "",
                refusal.detail if refusal else "",
                sum((request.counts or {}).get(LEFT_OUT, {}).values()),
            )
        )
