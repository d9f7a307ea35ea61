"""The platform's settings, with a heartbeat that comes at once, and upkeep soon again."""

import os

from thingscale import celery
from thingscale.settings import *  # noqa: F403

CELERY_BEAT_SCHEDULE = {"heartbeat": {"task": "heartbeat", "schedule": 0.2}}
CELERY_BEAT_SCHEDULER = os.environ.get("SCHEDULER", "celery.beat:PersistentScheduler")
celery.UPKEEP_AGAIN = 0.2
