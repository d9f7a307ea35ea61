"""The Celery application. Tasks live in each domain app's tasks.py."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thingscale.settings")
app = Celery("thingscale")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
