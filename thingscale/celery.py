"""The Celery application. Tasks live in each domain app's tasks.py."""

import os

from celery import Celery
from celery.signals import worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thingscale.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # they load all views, 15 MB that a worker never needs
app = Celery("thingscale")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_ready.connect
def _first_heartbeat(**_: object) -> None:
    """The scheduler would send it after a minute; until then the worker would look dead."""
    app.send_task("heartbeat", ignore_result=True)
