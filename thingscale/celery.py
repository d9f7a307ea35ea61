"""The Celery application. Tasks live in each domain app's tasks.py."""

import os
from typing import Any

from celery import Celery, bootsteps
from celery.beat import EmbeddedService
from celery.signals import worker_ready
from click import Option

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thingscale.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # they load all views, 15 MB that a worker never needs
app = Celery("thingscale")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


class Schedule(bootsteps.StartStopStep):
    """Periodic tasks, sent from a thread of the worker: `--beat` makes another process for them, with all of
    Django in it."""

    conditional = True

    def __init__(self, worker: Any, with_schedule: bool = False, **options: Any) -> None:
        self.enabled = with_schedule
        super().__init__(worker, **options)

    def create(self, worker: Any) -> Any:
        return EmbeddedService(worker.app, thread=True, schedule_filename=worker.schedule_filename)


app.steps["worker"].add(Schedule)
app.user_options["worker"].add(
    Option(["--with-schedule"], is_flag=True, help="Send the periodic tasks too: one worker has to.")
)


@worker_ready.connect
def _first_heartbeat(**_: object) -> None:
    """The scheduler would send it after a minute; until then the worker would look dead."""
    app.send_task("heartbeat", ignore_result=True)
