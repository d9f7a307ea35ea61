"""Intakes as an ASGI application, beside the HTTP connector, in its event loop and with its writer."""

import asyncio
from typing import TYPE_CHECKING

from django.conf import settings

from ingest.connectors.intake.exchange import IntakeExchange, Intakes
from ingest.connectors.intake.request import TOO_SLOW, TRY_AGAIN, IntakeAnswer
from ingest.connectors.intake.routes import Route, route
from ingest.message import Outcome
from ingest.writer import QueueFull
from thingscale.intakes.formats.readings import MAX_BODY
from thingscale.web.body_room import NoRoom
from thingscale.web.fair_semaphore import Busy
from thingscale.web.request_body import Receive, Scope, Send

if TYPE_CHECKING:
    from ingest.connectors.http_asgi import HttpConnector

BODY_SECONDS = 30


class IntakeDoor:
    def __init__(self, connector: "HttpConnector") -> None:
        self._connector = connector
        self.shared = Intakes()

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
        ingest, headers = self._connector.ingest, dict(scope["headers"])
        exchange = IntakeExchange(self.shared, ingest, found, scope["method"], scope["query_string"], headers)
        if answer := exchange.at_once():
            return answer
        intake = exchange.cached()
        if intake is None:
            looking = asyncio.get_running_loop().run_in_executor(self._connector.lookups, exchange.look_up)
            try:
                intake = await self._connector.timeouts.wait_for(settings.HTTP_STORE_SECONDS, looking)
            except TimeoutError:
                intake = TRY_AGAIN
        if answer := exchange.admit(intake):
            return answer
        try:
            reading = self._connector.bodies.read(exchange.user, receive, MAX_BODY)
            body = await self._connector.timeouts.wait_for(BODY_SECONDS, reading)
        except TimeoutError:
            return exchange.refused(TOO_SLOW)
        except NoRoom:
            return exchange.refused(TRY_AGAIN)
        return None if body is None else await self._store(exchange, body)

    async def _store(self, exchange: IntakeExchange, body: bytes) -> IntakeAnswer:
        """Answers after COMMIT."""
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[list[Outcome]] = loop.create_future()

        def done(outcomes: list[Outcome]) -> None:
            if not stored.done():
                stored.set_result(outcomes)

        try:
            if exchange.takes_long(body):
                never: asyncio.Future[None] = loop.create_future()
                submitted = await self._connector.large.read(
                    exchange.user,
                    body,
                    never,
                    lambda body: exchange.submit(body, done),
                    settings.HTTP_STORE_SECONDS,
                )
            else:
                submitted = exchange.submit(body, done)
        except (QueueFull, Busy):
            return exchange.refused(TRY_AGAIN)
        if answer := exchange.unless_stored(submitted):
            return answer
        try:
            outcomes = await self._connector.timeouts.wait_for(settings.HTTP_STORE_SECONDS, stored)
        except TimeoutError:
            assert submitted.submission is not None
            submitted.submission.cancelled = True  # unless it is in a transaction already
            return exchange.refused(TRY_AGAIN)
        return exchange.answer(submitted, outcomes)
