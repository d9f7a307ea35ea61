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
from thingscale.background.service_watch import TellingThread
from thingscale.processes import secret_key
from thingscale.processes.registration import Registration
from thingscale.processes.service_manager import ServiceManager

log = logging.getLogger(__name__)
TICK_SECONDS = 1  # at most between two looks at the schedule, and so until it stops
STOP_SECONDS = 3
MAINTENANCE_RETRY_SECONDS = 5.0  # while other maintenance runs
_maintenance_lock = Lock()
_registration: Registration | None = None  # of a worker
_manager: ServiceManager | None = None
_telling: TellingThread | None = None

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thingscale.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # the checks load all views, 15 MB that a worker never needs
app = Celery("thingscale")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


class Maintenance(Task[Any, Any]):
    """The base of tasks that may take long and that nobody waits for. They use one of the worker's two
    threads: the other one is for activation and mail."""

    max_retries = None  # any number; the argument of retry() can't say that

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if not _maintenance_lock.acquire(blocking=False):
            raise self.retry(countdown=MAINTENANCE_RETRY_SECONDS)
        try:
            return super().__call__(*arguments, **options)
        except maintenance.Interrupted:
            log.info("%s is gone on with after the restart", self.name)
        finally:
            _maintenance_lock.release()


class BeatThread(Thread):
    """Sends the periodic tasks. If it ends although it should not, as with a full disk, the worker ends, too,
    so that it is started again."""

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
    """Runs the schedule in the worker. Celery's own `--beat` would start another process, with all of Django
    in it."""

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


class NotificationsStep(bootsteps.StartStopStep):
    """Runs the threads that make stored datapoints into notifications (thingscale/events/worker.py). They are
    no tasks: activation and mail would have to wait for them."""

    def create(self, worker: Any) -> Any:
        from thingscale.events import worker as events  # with models, once Django is ready

        return events.Notifications()


class DeliveriesStep(bootsteps.StartStopStep):
    """Runs the threads that send notifications (thingscale/events/delivery.py)."""

    def create(self, worker: Any) -> Any:
        from thingscale.events import delivery

        return delivery.Deliveries()


app.steps["worker"].add(Schedule)
app.steps["worker"].add(NotificationsStep)
app.steps["worker"].add(DeliveriesStep)
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
def _register(**_: object) -> None:
    global _registration, _manager, _telling  # noqa: PLW0603
    _manager = ServiceManager()
    _telling = TellingThread(_manager)
    _registration = Registration("celery")
    _registration.require()


@worker_ready.connect
def _begin(**_: object) -> None:
    """Sends a heartbeat at once: the scheduler sends the first one after a minute."""
    app.send_task("heartbeat", ignore_result=True)
    if _registration and _manager and _telling:
        _registration.start()
        _manager.ready()
        _telling.start()


@worker_shutdown.connect
def _leave(**_: object) -> None:
    if _registration and _telling:
        _telling.stop()
        _registration.stop()


@worker_shutting_down.connect
def _stop_maintenance(**_: object) -> None:
    """The worker waits for running tasks, and its supervisor does not wait long for the worker."""
    maintenance.stop()
    if _manager:
        _manager.stopping()
