"""I2: a thread or task whose work raises is noticed, begins again, and its process is not ready meanwhile."""

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections
from stack import free_port, wait_until

from ingest.gateway.presence import Known, PresenceWriter
from ingest.metrics_server import MetricsServer
from ingest.service import Activation, Ingest, connect
from thingscale.background import watched
from thingscale.background.watched import WatchedThread, keep_going, log_failure
from thingscale.devices.presence import Presence
from thingscale.processes import live_feed
from thingscale.processes.change_notifications import Listener, announce
from thingscale.provisioning import tasks
from thingscale.web.health import Health


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(watched, "STEADY_SECONDS", 1.0)
    gc.collect()  # what other tests have left behind
    wait_until(lambda: not watched.failing(), 60, "nothing to fail any more")


class Fails:
    """Raises while `broken`, else does what it is told to."""

    def __init__(self, otherwise: Callable[..., Any] = lambda *_: None) -> None:
        self.broken = True
        self.calls = 0
        self._otherwise = otherwise

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        if self.broken:
            raise RuntimeError("a bug")
        return self._otherwise(*arguments, **named)


def goes_unwell_and_well_again(name: str, fails: Fails) -> None:
    wait_until(lambda: name in watched.failing() and fails.calls > 1, 60, f"{name} to fail and begin again")
    fails.broken = False
    wait_until(lambda: name not in watched.failing(), 60, f"{name} to be well")


@pytest.mark.parametrize("error", [RuntimeError, KeyError, SystemExit])
def test_i2_a_thread_that_raises_begins_again(
    caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    went_on = threading.Event()
    runs = []

    def work() -> None:
        runs.append(1)
        if len(runs) < 4:
            raise error("a bug")
        went_on.set()
        thread.stopping.wait()

    thread = WatchedThread("a part", work)
    with caplog.at_level(logging.ERROR):
        thread.start()
        assert went_on.wait(60)
    assert watched.failing() == ["a part"]
    wait_until(lambda: not watched.failing(), what="it to be well")
    thread.stop(5)
    assert not thread.is_alive()
    assert not watched.failing()
    levels = [record.levelname for record in caplog.records]
    assert levels == ["CRITICAL", "ERROR", "ERROR"]  # one traceback, not an endless row
    assert caplog.records[0].exc_info


def test_i2_a_thread_that_returns_unasked_has_failed() -> None:
    thread = WatchedThread("returns", lambda: None)
    thread.start()
    wait_until(lambda: "returns" in watched.failing())
    thread.stop(5)


def test_i2_a_task_that_raises_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        fails = Fails()

        async def work() -> None:
            fails()
            await asyncio.sleep(60)

        task = asyncio.create_task(keep_going("a round", work))
        await asyncio.to_thread(goes_unwell_and_well_again, "a round", fails)
        task.cancel()
        short = asyncio.create_task(asyncio.sleep(0, 1 / 1), name="short")
        short.add_done_callback(log_failure)
        await short

    asyncio.run(scenario())
    assert "a round failed" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_i2_a_listener_whose_callback_raises(settings: Any) -> None:
    """A listener whose thread has died must not say `connected`. What was missed meanwhile is made good."""
    heard: list[Any] = []
    fails = Fails(heard.append)
    fails.broken = False
    listener = Listener(connect, fails)
    listener.start()
    wait_until(lambda: listener.connected)
    fails.broken = True
    announce("tokens", 1)
    wait_until(lambda: "invalidation" in watched.failing())
    assert not listener.connected
    heard.clear()
    goes_unwell_and_well_again("invalidation", fails)
    wait_until(lambda: listener.connected)
    assert heard[0] is None  # forget everything
    announce("tokens", 2)
    wait_until(lambda: ("tokens", 2, "") in heard)
    listener.stop()


@pytest.mark.django_db(transaction=True)
def test_i2_the_ingest_of_a_process_is_not_ready_meanwhile() -> None:
    fails = Fails()
    fails.broken = False
    ingest = Ingest(on_change=fails)
    ingest.start()
    try:
        page = MetricsServer(0, ingest)
        wait_until(lambda: ingest.ready, 60)
        fails.broken = True
        announce("devices", 1)
        wait_until(lambda: "invalidation" in watched.failing())
        assert not ingest.ready
        assert page.answer("/readyz") == (503, "text/plain; charset=utf-8", b"FAILING: invalidation")
        assert readyz() == (503, b"FAILING: invalidation")
        fails.broken = False
        wait_until(lambda: ingest.ready, 60)
        assert page.answer("/readyz")[0] == 200
    finally:
        fails.broken = False
        ingest.stop(5)


def readyz() -> tuple[int, bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def ask() -> None:
        health = Health()
        await health({"type": "http", "method": "GET", "path": "/readyz"}, receive, send)
        health._thread.submit(connections.close_all).result()

    asyncio.run(ask())
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.django_db(transaction=True)
def test_i2_the_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    ingest = Ingest()
    activity = ingest.writer._activity
    fails = Fails(activity.flush)
    monkeypatch.setattr(activity, "flush", fails)
    monkeypatch.setattr(type(activity), "wait_seconds", 0.0)
    ingest.start()
    goes_unwell_and_well_again("writer", fails)
    assert ingest.writer.running
    monkeypatch.undo()
    assert ingest.stop(5)


@pytest.mark.django_db(transaction=True)
def test_i2_presence(monkeypatch: pytest.MonkeyPatch) -> None:
    from thingscale.devices import presence

    fails = Fails(presence.update)
    monkeypatch.setattr(presence, "update", fails)
    present = Presence(1, "c", "", True, 4, 60, 0.0)
    writer = PresenceWriter(connect, uuid4(), Known(lambda: [(1, "c")], lambda _: present))
    writer.note((1, "c"))
    writer.start()
    wait_until(lambda: "presence" in watched.failing() and fails.calls > 1, 60)
    writer.note((1, "c"))  # there is no such user
    fails.broken = False
    wait_until(lambda: "presence" not in watched.failing(), 60)
    writer.stop()


def test_i2_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Celery's client raises is logged there; anything else is a failure of the thread."""
    fails = Fails()

    class Broken(BaseException):
        pass

    def ask(*_: Any, **__: Any) -> None:
        fails.calls += 1
        if fails.broken:
            raise Broken

    monkeypatch.setattr(tasks.activate_device, "apply_async", ask)
    activation = Activation()
    activation.ask([1, 2, 3])
    activation.start()
    goes_unwell_and_well_again("activation", fails)
    activation.stopping.set()
    activation.ask([4])


def test_i2_open_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = live_feed.LiveFeed()
    fails = Fails()
    monkeypatch.setattr(pages, "round", fails)
    pages.start()
    goes_unwell_and_well_again("pages", fails)
    assert pages._thread
    pages._thread.stopping.set()
    fails.broken = True


def test_i2_the_metrics_page(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    from http.server import ThreadingHTTPServer

    fails = Fails(ThreadingHTTPServer.serve_forever)
    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", lambda server: fails(server, 0.1))
    page = MetricsServer(free_port(), Ingest())
    page.start()
    goes_unwell_and_well_again("metrics", fails)
    page.stop()
    assert not watched.failing()


@pytest.mark.django_db(transaction=True)
def test_i2_the_web_process_is_not_ready_with_any_of_its_threads_failing() -> None:
    thread = WatchedThread("returns", lambda: None)
    thread.start()
    wait_until(watched.failing)
    assert readyz()[0] == 503
    thread.stop(5)
