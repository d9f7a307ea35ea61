"""Hosts: devices that are servers, by what they send.

The table has no constraints in the database: processes of the release before delete devices and accounts, and
know nothing of it. `look.py` writes it, and deletes what is left behind.
"""

from typing import ClassVar

from django.conf import settings
from django.db import models

from thingscale.devices.models import Device
from thingscale.hosts.querysets import HostQuerySet


class Host(models.Model):
    """The gauges of a device that is a server, as of its last look. They are here to be sorted by: a page of
    many hosts reads no datapoint."""

    device = models.OneToOneField(
        Device, on_delete=models.CASCADE, primary_key=True, db_constraint=False, related_name="host"
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_constraint=False
    )
    sender = models.CharField(max_length=20)  # metrics.Sender
    at = models.FloatField()  # of its newest sample, in seconds since 1970
    cpu = models.FloatField(null=True)  # %
    memory = models.FloatField(null=True)
    disk = models.FloatField(null=True)
    disk_name = models.CharField(max_length=200, blank=True)
    swap = models.FloatField(null=True)
    load = models.FloatField(null=True)
    cores = models.FloatField(null=True)
    uptime = models.FloatField(null=True)  # seconds
    pain = models.FloatField()  # by which the list is sorted: metrics.pain(), and more of one that is silent
    silent = models.BooleanField(default=False, db_default=False)
    counters = models.JSONField(default=dict, db_default={})  # metrics.Memory

    objects: ClassVar[HostQuerySet] = HostQuerySet.as_manager()  # type: ignore[assignment]
