"""The store's process: the writer, at the other end of a socket pair from the gateway (store_client.py)."""

import contextlib
import gc
import logging
import os
import signal
import socket
import threading
import time
from functools import partial
from typing import Any, NamedTuple, NoReturn, cast
from uuid import UUID, uuid4

from django.db import connections

from ingest.message import Outcome, RawMessage
from ingest.service import Ingest
from ingest.session_work import SessionWork
from ingest.store_protocol import (
    Answer,
    Columns,
    Frames,
    answer,
    asked_of,
    behind_of,
    frame,
    messages,
    plain,
)
from ingest.writer import Completion, QueueLimits
from thingscale.background.watched import WatchedThread
from thingscale.devices.listening import Door
from thingscale.lib.gc_tuning import freeze_after_start

log = logging.getLogger(__name__)

RECEIVE = 1 << 20  # bytes at a time
STATUS_SECONDS = 1.0
NO_LIMITS = QueueLimits(1 << 62, 1 << 62)  # the gateway sends no more than may wait


class StartedStore(NamedTuple):
    connection: socket.socket  # the gateway's end
    process: int
    gateway: UUID  # what both are known as in the database


def start() -> StartedStore:
    """To be called before there are threads: the new process begins as a copy of this one, and shares its
    memory."""
    connections.close_all()
    gc.freeze()  # else the collector would touch what is shared, and so double it
    ours, theirs = socket.socketpair()
    gateway = uuid4()
    if process := os.fork():
        theirs.close()
        return StartedStore(ours, process, gateway)
    ours.close()  # so that the end of the gateway is seen
    try:
        StoreServer(theirs, gateway).serve()
    except ConnectionResetError:
        log.warning("The gateway was killed")
    except Exception:
        log.exception("The store failed")
    os._exit(1)


class StoreServer:
    def __init__(self, connection: socket.socket, gateway: UUID) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._answers: list[Answer] = []
        self._ingest = Ingest(self._dispatch, limits=NO_LIMITS, writer=gateway, fenced=_end, door=Door.MQTT)
        self._reporter = WatchedThread("status", self._report)

    def serve(self) -> None:
        """Until the gateway says stop. If it ends without that, so does this process, at once: what is not
        acknowledged will be sent again, to another gateway."""
        for interrupt in (signal.SIGINT, signal.SIGTERM):
            signal.signal(interrupt, signal.SIG_IGN)  # the gateway decides
        self._ingest.start()
        freeze_after_start()
        self._reporter.start()
        frames = Frames()
        while data := self._connection.recv(RECEIVE):
            for value in frames.feed(data):
                if isinstance(value, float):
                    self._stop(value)
                number, fields, asked, behind = cast(tuple[int, Columns, Any, Any], value)
                taken = messages(fields)
                work = None
                if asked or behind:
                    work = SessionWork(asked and asked_of(asked), behind and behind_of(behind))
                self._ingest.writer.accept(taken, partial(self._answer, number, taken, work), work)

    def _answer(
        self, number: int, taken: list[RawMessage], work: SessionWork | None, outcomes: list[Outcome]
    ) -> None:
        copies = [raw.kept.numbers for raw in taken if raw.kept and raw.kept.copies]
        found = (plain(work.found) if not work.failed else False) if work else None
        self._answers.append(answer(number, outcomes, copies, found))

    def _dispatch(self, completions: list[Completion]) -> None:
        """In the writer's thread."""
        for done, outcomes in completions:
            done(outcomes)
        answers, self._answers = self._answers, []
        self._send(frame(answers))

    def _report(self) -> None:
        while True:
            self._send(frame((self._ingest.writer.metrics.figures(), self._ingest.ready)))
            time.sleep(STATUS_SECONDS)

    def _send(self, data: bytes) -> None:
        with self._sending, contextlib.suppress(OSError):  # the gateway is gone: see serve()
            self._connection.sendall(data)

    def _stop(self, seconds: float) -> NoReturn:
        self._ingest.stop(seconds)
        os._exit(0)


def _end() -> NoReturn:
    """It would route by subscriptions that are old."""
    log.critical("Other gateways have taken this one for dead, so it ends: clients will send again")
    os._exit(1)
