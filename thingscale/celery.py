"""The Celery application. Tasks live in each domain app's tasks.py."""

import logging
import os
import signal
from threading import Lock, Thread
from typing import Any

from celery import Celery, Task, bootsteps
from celery.beat import Service
from celery.signals import (
    beat_init,
    celeryd_init,
    worker_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from click import Option

from thingscale.background import maintenance
from thingscale.processes import secret_key
from thingscale.processes.start import Registration

log = logging.getLogger(__name__)
TICK_SECONDS = 1  # at most between two looks at what is due, and so until it stops
STOP_SECONDS = 3
MAINTENANCE_AGAIN = 5.0  # seconds, while other maintenance runs
_one_at_a_time = Lock()
_registration: Registration | None = None  # of a worker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thingscale.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # they load all views, 15 MB that a worker never needs
app = Celery("thingscale")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


class Maintenance(Task[Any, Any]):
    """Work that may take long and that nobody waits for. It has one of the worker's two threads at most: the
    other one is for activation and mail."""

    max_retries = None  # as often as it takes; retry() would take None for the usual 3

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if not _one_at_a_time.acquire(blocking=False):
            raise self.retry(countdown=MAINTENANCE_AGAIN)
        try:
            return super().__call__(*arguments, **options)
        except maintenance.Interrupted:
            log.info("%s is gone on with after the restart", self.name)
        finally:
            _one_at_a_time.release()


class BeatThread(Thread):
    """Sends the periodic tasks. If it ends unasked, as with a full disk, so does the worker, to be started
    again."""

    def __init__(self, service: Any) -> None:
        super().__init__(name="beat", daemon=True)
        self._service = service
        self._stopping = False

    def run(self) -> None:
        app.set_current()
        try:
            self._service.start()
        except BaseException:
            log.exception("The schedule failed")
        if not self._stopping:
            log.critical("Periodic tasks are not sent any more: the worker ends, to be started again")
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(self) -> None:
        self._stopping = True
        self._service.stop()
        self.join(STOP_SECONDS)  # it may wait for Valkey


class Schedule(bootsteps.StartStopStep):
    """Celery's own `--beat` makes another process for the periodic tasks, with all of Django in it."""

    conditional = True

    def __init__(self, worker: Any, with_schedule: bool = False, **options: Any) -> None:
        self.enabled = with_schedule
        super().__init__(worker, **options)

    def create(self, worker: Any) -> Any:
        return BeatThread(
            Service(
                worker.app,
                max_interval=TICK_SECONDS,
                schedule_filename=worker.schedule_filename,
                scheduler_cls=worker.scheduler,
            )
        )


app.steps["worker"].add(Schedule)
app.user_options["worker"].add(
    Option(
        ["--with-schedule"],
        is_flag=True,
        help="Send the periodic tasks too, each once among all workers: one has to.",
    )
)


@beat_init.connect
@celeryd_init.connect
def _require_secret_key(**_: object) -> None:
    secret_key.require()


@worker_init.connect
def _check(**_: object) -> None:
    global _registration  # noqa: PLW0603
    _registration = Registration("celery")
    _registration.require()


@worker_ready.connect
def _begin(**_: object) -> None:
    """The scheduler would send the first heartbeat after a minute; until then the worker would look dead."""
    app.send_task("heartbeat", ignore_result=True)
    if _registration:
        _registration.start()


@worker_shutdown.connect
def _leave(**_: object) -> None:
    if _registration:
        _registration.stop()


@worker_shutting_down.connect
def _stop_maintenance(**_: object) -> None:
    """The worker waits for what is running, and its supervisor not for long."""
    maintenance.stop()
