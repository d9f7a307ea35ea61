"""The writer and what it needs, once in each process."""

import contextlib
import logging
import queue
from collections.abc import Callable
from uuid import UUID

import psycopg
from django.conf import settings

from ingest.device_cache import DeviceCache
from ingest.device_tokens import DeviceTokens
from ingest.writer import Dispatch, QueueLimits, Writer, run_all
from thingscale.background import watched
from thingscale.background.watched import WatchedThread
from thingscale.devices.listening import Door
from thingscale.processes import own_connection
from thingscale.processes.change_notifications import Change, Listener
from thingscale.processes.live_feed import LIVE_FEED

log = logging.getLogger(__name__)


class Ingest:
    """`on_change` gets each change, too, in the listener's thread. `writer` is the writer's id in the
    database. `fenced`, `door` and `hears`: see Writer."""

    def __init__(  # noqa: PLR0913  (what differs between the processes)
        self,
        dispatch: Dispatch = run_all,
        *,
        on_change: Callable[[Change | None], None] = lambda change: None,
        limits: QueueLimits | None = None,
        writer: UUID | None = None,
        fenced: Callable[[], None] = lambda: None,
        door: Door = Door.HTTP,
        hears: Callable[[], bool] = lambda: True,
    ) -> None:
        self.device_cache = DeviceCache()
        self.device_tokens = DeviceTokens()
        self._on_change = on_change
        self._activation = Activation()
        self.writer = Writer(
            connect,
            self.device_cache,
            limits=limits or QueueLimits(settings.QUEUE_MESSAGES, settings.QUEUE_BYTES),
            dispatch=dispatch,
            first_contact=self._activation.ask,
            key=writer,
            fenced=fenced,
            door=door,
            hears=hears,
        )
        self._listener = Listener(connect, self._changed)

    def start(self) -> None:
        self._listener.start()
        self._activation.start()
        LIVE_FEED.start()
        self.writer.start()

    @property
    def ready(self) -> bool:
        """Whether messages can be stored. This is known within seconds."""
        return self._listener.connected and self.writer.running and not watched.failing()

    def stop(self, seconds: float | None = None) -> bool:
        """Returns once what is queued is stored; False if time ran out first."""
        drained = self.writer.drain(settings.DRAIN_SECONDS if seconds is None else seconds)
        self._listener.stop()
        return drained

    def _changed(self, change: Change | None) -> None:
        self.device_cache.on_change(change)
        self.writer.on_change(change)
        self.device_tokens.on_change(change)
        self._on_change(change)


def connect() -> psycopg.Connection:
    return own_connection.connect("thingscale-ingest")


class Activation(WatchedThread):
    """Asks Celery to activate new devices. It is a thread of its own, since Valkey may be slow or away. If a
    request is lost, the periodic task activates the device within a minute."""

    def __init__(self) -> None:
        super().__init__("activation", self._ask_celery)
        self._queue: queue.Queue[int] = queue.Queue(maxsize=1000)

    def ask(self, devices: list[int]) -> None:
        with contextlib.suppress(queue.Full):
            for device in devices:
                self._queue.put_nowait(device)

    def _ask_celery(self) -> None:
        from thingscale.provisioning.tasks import (
            activate_device,  # with Celery, which the gateway can do without
        )

        while True:
            device = self._queue.get()
            try:
                activate_device.apply_async((device,), retry=False)
            except Exception as error:
                log.warning("Auto-activation waits for its next round: %s", type(error).__name__)
