"""I2: every thread, task and timer there is, what becomes of it when it raises, and the test of that.

The MQTT gateway's and the broker worker's are in tests/ingest.
"""

import ast
import asyncio
import logging
import os
import signal
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from stack import ROOT, free_port, wait_until
from test_watched import Fails, goes_unwell_and_well_again

from ingest import store_server
from ingest.store_server import StoreServer
from thingscale.background import watched
from thingscale.celery import BeatThread
from thingscale.live.consumers import TRY_LATER, LiveConsumer
from thingscale.processes import live_feed
from thingscale.web import health, https
from thingscale.web.callers import Callers, Credential
from thingscale.web.health import Health
from thingscale.web.http_protocol import connections

BEGIN = {
    *("Thread", "WatchedThread", "BeatThread", "ThreadPoolExecutor", "create_task", "ensure_future"),
    *("TaskGroup", "run_coroutine_threadsafe", "call_later", "keep_going"),
}
BY_ITS_CALLER = "a failure is its caller's: the executor's thread goes on"
# Where and what: what its end means, or the test that shows it.
PARTS = {
    "thingscale/processes/change_notifications.py WatchedThread": "test_i2_a_listener_whose_callback_raises",
    "thingscale/processes/live_feed.py WatchedThread": "test_i2_open_pages",
    "thingscale/processes/wake_up.py WatchedThread": "saves a second; it begins again",
    "thingscale/background/watched.py Thread": "test_i2_a_thread_that_raises_begins_again",
    "thingscale/celery.py BeatThread": "test_i2_the_schedule_ends_its_worker",
    "thingscale/events/delivery.py WatchedThread": "begins again; tests/events/test_delivery.py",
    "thingscale/events/guard.py WatchedThread": "begins again; test_the_watchdog_begins_again",
    "thingscale/events/mqtt_state.py WatchedThread": "begins again, where it was",
    "thingscale/events/worker.py WatchedThread": "begins again; tests/events/test_events_worker.py",
    "ingest/intake_log.py WatchedThread": "begins again; the messages of a moment are not noted",
    "thingscale/live/consumers.py create_task": "test_i2_an_open_page_is_told_to_come_again",
    "thingscale/processes/registration.py WatchedThread": "begins again; the row ends, and is made anew",
    "thingscale/devices/mqtt_client.py WatchedThread": "broker mode: goes on by itself",
    "thingscale/devices/mqtt_client.py create_task": "broker mode: connect() tries for ever",
    "thingscale/devices/mqtt_client.py run_coroutine_threadsafe": "broker mode: its caller waits for it",
    "thingscale/web/callers.py ensure_future": "test_i2_who_asks_for_an_account_is_told_of_the_failure",
    "thingscale/web/health.py ThreadPoolExecutor": "test_i2_the_look_at_the_database_goes_on",
    "thingscale/background/service_watch.py WatchedThread": "a unit without signs of life is restarted",
    "thingscale/operations/doctor/examination.py Thread": "a command's: a check is left behind in it",
    "thingscale/asgi.py create_task": "of service_watch.py: as its thread",
    "ingest/management/commands/ingest.py create_task": "of service_watch.py; a start that fails ends it",
    "thingscale/web/http_protocol.py call_later": "test_i2_time_limits_of_connections_go_on",
    "thingscale/web/http_protocol.py create_task": "a request: uvicorn's cycle answers 500 and closes",
    "thingscale/web/https.py create_task": "test_i2_the_certificate_is_followed_again",
    "thingscale/web/https.py keep_going": "test_i2_the_certificate_is_followed_again",
    "thingscale/web/fair_threads.py ThreadPoolExecutor": BY_ITS_CALLER,
    "thingscale/web/proxy_listener.py call_later": "adds a reader, which does not raise",
    "thingscale/web/proxy_listener.py create_task": "of a connection: it logs what fails, and closes it",
    "thingscale/web/static_files.py ThreadPoolExecutor": BY_ITS_CALLER,
    "thingscale/web/timeouts.py call_later": "cancels tasks only, which does not raise",
    "thingscale/web/wsgi_threads.py create_task": "a request's: cancelled with it, its result is awaited",
    "thingscale/local/child_process.py ThreadPoolExecutor": BY_ITS_CALLER,
    "thingscale/local/rumqttd.py Thread": "looks whether its parent is there, and does nothing else",
    "ingest/admission.py call_later": "offers what waits again, in tests/ingest/test_admission.py",
    "ingest/connectors/http_asgi.py ThreadPoolExecutor": BY_ITS_CALLER,
    "ingest/connectors/http_asgi.py create_task": "of a message: its sender is answered 503 once it is late",
    "ingest/event_metrics.py WatchedThread": "as metrics_server.py's; without it figures are missing",
    "ingest/metrics_server.py WatchedThread": "test_i2_the_metrics_page",
    "ingest/writer.py WatchedThread": "test_i2_the_writer",
    "ingest/service.py WatchedThread": "test_i2_activation",
    "ingest/store_server.py WatchedThread": "test_i2_the_store_goes_on_saying_how_it_is",
}


def begun() -> Iterator[str]:
    """File and function of each call that begins a thread, a task or a timer."""
    for folder in ("thingscale", "api", "console", "ingest"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if name.startswith(("ingest/connectors/broker", "ingest/simulate/", "ingest/gateway/")):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                    if called in BEGIN:
                        yield f"{name} {called}"
                elif isinstance(node, ast.ClassDef) and any(
                    getattr(base, "id", "") == "WatchedThread" for base in node.bases
                ):
                    yield f"{name} WatchedThread"


def test_i2_every_thread_and_task_is_in_the_table() -> None:
    assert {*Counter(begun())} == {*PARTS}
    here = {
        node.name
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert {text for text in PARTS.values() if text.startswith("test_")} <= here


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(watched, "STEADY_SECONDS", 1.0)


@pytest.mark.parametrize("error", [OSError, SystemExit, MemoryError])
def test_i2_the_schedule_ends_its_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def start() -> None:
        raise error

    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *sent: signals.append(sent))
    beat = BeatThread(SimpleNamespace(start=start, stop=lambda: None))
    beat.start()
    beat.join(60)
    assert signals == [(os.getpid(), signal.SIGTERM)]
    assert "Periodic tasks are not sent any more" in caplog.text


def test_i2_the_certificate_is_followed_again(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.TLS_CERT, settings.HTTPS_PORT, settings.BIND = "cert", free_port(), "127.0.0.1"
    fails = Fails()

    async def follow() -> None:
        fails()
        await asyncio.sleep(60)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = SimpleNamespace(context=context, follow=follow)
    monkeypatch.setattr(https, "Certificate", lambda *_: certificate)

    async def scenario() -> None:
        listener = https.HttpsListener(lambda *_: None)
        await listener.start({})
        await asyncio.to_thread(goes_unwell_and_well_again, "certificate", fails)
        await listener.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [RuntimeError, KeyError])
def test_i2_time_limits_of_connections_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: type[Exception]
) -> None:
    """A connection that fails is ended; it is not the last whose limit is looked at."""
    looked: list[str] = []

    class Connection:
        due = unread_due = 0.0

        def __init__(self, name: str) -> None:
            self.name = name

        def on_due(self, now: float) -> None:
            looked.append(self.name)
            if self.name == "broken":
                raise error

        def abort(self) -> None:
            looked.append(f"end {self.name}")
            connections.remove(self, "")  # type: ignore[arg-type]

    both = [Connection("broken"), Connection("sound")]

    async def scenario() -> None:
        for each in both:
            connections.add(each, "")  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(60):
                while looked.count("sound") < 3 or "end broken" not in looked:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        finally:
            for each in both:
                connections.open.discard(each)

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert looked.count("broken") == 1
    assert "A connection failed" in caplog.text


def test_i2_the_store_goes_on_saying_how_it_is(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    monkeypatch.setattr(store_server, "STATUS_SECONDS", 0.01)
    ours, theirs = socket.socketpair()
    store = StoreServer(theirs, uuid4())
    metrics = store._ingest.writer.metrics
    fails = Fails(metrics.figures)
    monkeypatch.setattr(metrics, "figures", fails)
    store._reporter.start()
    with ours, theirs:
        goes_unwell_and_well_again("status", fails)
        ours.settimeout(60)
        assert ours.recv(100)
        store._reporter.stopping.set()
        fails.broken = True
        wait_until(lambda: not store._reporter.is_alive(), 60, "the thread to end")


def test_i2_the_look_at_the_database_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = Fails(lambda: True)
    monkeypatch.setattr(health, "ask_database", fails)

    async def ask(page: Health) -> bool:
        return await page._database_answers()

    async def scenario() -> None:
        page = Health()
        with pytest.raises(RuntimeError):  # which is a 500, and so not ready
            await ask(page)
        fails.broken = False
        assert await ask(page)

    asyncio.run(scenario())


def test_i2_who_asks_for_an_account_is_told_of_the_failure() -> None:
    fails = Fails(lambda _: 7)

    async def look_up(function: Any, credential: Credential, where: str) -> int | None:
        return await asyncio.to_thread(function, credential)

    async def scenario() -> None:
        callers = Callers(fails, look_up, "sessionid")
        scope = {"type": "http", "headers": [(b"x-apitoken", b"A")], "client": ("10.0.0.1", 1)}
        with pytest.raises(RuntimeError):
            await callers.account(scope)
        fails.broken = False
        assert await callers.account(scope) == "account 7"

    asyncio.run(scenario())


def test_i2_an_open_page_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended = threading.Event()
    codes: list[int] = []

    async def close(code: int) -> None:
        codes.append(code)
        ended.set()

    def mark(_: int) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(live_feed, "subscribe", mark)
    page = LiveConsumer()
    monkeypatch.setattr(page, "close", close)
    asyncio.run(page._keep_alive(1))
    assert codes == [TRY_LATER]
    assert "A live page failed" in caplog.text
