"""The platform's settings, with what takes minutes in less than a second, and maintenance without an end."""

import logging
import os
import time

from thingscale import celery
from thingscale.background import maintenance
from thingscale.settings import *  # noqa: F403

CELERY_BEAT_SCHEDULE = {"heartbeat": {"task": "heartbeat", "schedule": 0.2}}
CELERY_BEAT_SCHEDULER = os.environ.get("SCHEDULER", CELERY_BEAT_SCHEDULER)  # noqa: F405
DURABLE_END_SECONDS = 0.2
celery.MAINTENANCE_RETRY_SECONDS = 0.2
log = logging.getLogger(__name__)


@celery.app.task(name="endless", base=celery.Maintenance)
def endless() -> None:
    log.info("endless runs")
    while True:
        time.sleep(0.05)
        maintenance.check_stop()
