"""What the processes on one database know of each other; see compatibility.py and registration.py."""

from django.db import models
from django.db.models.functions import Now


class Installation(models.Model):
    """Has one row."""

    release = models.IntegerField(help_text="the newest that has ever started here")


class SecretKey(models.Model):
    """A key that something in the database may be encrypted with: each process that starts records its newest
    one."""

    fingerprint = models.CharField(max_length=64, unique=True)
    since = models.DateTimeField(db_default=Now())


class Process(models.Model):
    part = models.CharField(max_length=20)
    host = models.CharField(max_length=255)
    pid = models.IntegerField()
    version = models.CharField(max_length=20)
    release = models.IntegerField()
    secret_key = models.CharField(max_length=64, help_text="the fingerprint of its newest one")
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())
