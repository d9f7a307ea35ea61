"""Devices, what waits for them, what was refused, and who was heard."""

from datetime import datetime, timedelta
from typing import ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from thingscale.accounts.owned import OwnedQuerySet
from thingscale.devices.querysets import DeviceQuerySet, MinuteCountQuerySet
from thingscale.lib.names import DEVICE_ID_RULE, MAX_TAG, bad_device_id

SILENT_AFTER = timedelta(minutes=15)  # an enabled device not heard for so long is silent


def validate_device_id(device_id: str) -> None:
    if bad_device_id(device_id):
        raise ValidationError(DEVICE_ID_RULE)


class Device(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="devices")
    device_id = models.CharField(max_length=64, validators=[validate_device_id])
    description = models.CharField(max_length=1000, blank=True)
    enabled = models.BooleanField(default=True)
    mapped_channel = models.ForeignKey(
        "streams.Channel", on_delete=models.SET_NULL, null=True, related_name="devices"
    )
    device_type = models.CharField(max_length=200, blank=True)
    location = models.CharField(max_length=200, blank=True)
    manufacturer = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    activate_at = models.DateTimeField(null=True)  # first enabled; null: never, so still new
    state = models.JSONField(null=True)
    state_at = models.DateTimeField(null=True)

    last_seen: datetime | None  # of those that came by DeviceQuerySet.with_last_seen()
    objects: ClassVar[DeviceQuerySet] = DeviceQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "device_id"], name="one_device_id_a_user")]

    def __str__(self) -> str:
        return self.device_id


class Activity(models.Model):
    """Written every few seconds by ingest (ingest/activity.py). No constraint in the database, so that
    writing it locks no device; rows whose device is gone are cleared by a task."""

    device = models.OneToOneField(Device, on_delete=models.CASCADE, primary_key=True, db_constraint=False)
    last_seen = models.DateTimeField()
    messages = models.BigIntegerField()  # stored, held, rejected or sent again


class MinuteCount(models.Model):
    """An account's messages by the minute of their commit."""

    KEPT = timedelta(days=31)

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    minute = models.DateTimeField()
    stored = models.BigIntegerField()
    held = models.BigIntegerField()
    rejected = models.BigIntegerField()

    objects: ClassVar[MinuteCountQuerySet] = MinuteCountQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "minute"], name="one_count_a_minute")]


class HeldMessage(models.Model):
    """A decoded message of a new or unmapped device, stored in the channel once there is one."""

    KEPT = 100  # a device
    MAX_BYTES = 8 * 2**20  # of JSON text, a device; at least the newest is kept

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="held")
    tag = models.CharField(max_length=MAX_TAG, null=True)
    value = models.JSONField()
    received_at = models.DateTimeField()
    dedupe = models.BigIntegerField(null=True)
    array = models.BooleanField(db_default=False)  # of {"at": microseconds, "tag", "value"}
    size = models.IntegerField(db_default=0)  # of the value's text; 0: of the release before, not counted


class RejectedMessage(models.Model):
    """A message that was answered and not stored, with the reason: an account's newest `max_rejected`."""

    EXCERPT = 256  # bytes of payload
    SOURCE = 300  # characters

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="rejected", db_index=False
    )
    device_id = models.CharField(max_length=64, blank=True)
    source = models.CharField(max_length=SOURCE)  # where it came in: the topic without its token, ...
    reason = models.CharField(max_length=40)
    payload = models.BinaryField()  # its first bytes
    size = models.PositiveIntegerField()
    received_at = models.DateTimeField()
    detail = models.TextField(blank=True, db_default="")  # what is wrong with the payload, beyond the reason

    objects: ClassVar[OwnedQuerySet["RejectedMessage"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [models.Index(fields=["user", "id"], name="newest_rejected_of_a_user")]


class Command(models.Model):
    """What was published to a device; see commands.py."""

    KEPT = 1000  # a user
    SENT = "sent"

    class By(models.TextChoices):
        API = "api"
        CONSOLE = "console"

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="commands", db_index=False
    )
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="commands")
    payload = models.BinaryField()
    qos = models.PositiveSmallIntegerField()
    sent_at = models.DateTimeField(default=timezone.now)
    result = models.CharField(max_length=40, default=SENT)  # or the error's code
    by = models.CharField(max_length=7, choices=By)

    objects: ClassVar[OwnedQuerySet["Command"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [models.Index(fields=["user", "id"], name="newest_command_of_a_user")]


class ActivationRule(models.Model):
    """New devices whose id matches the pattern are enabled and mapped (CONTRACT 7)."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="activation_rules"
    )
    pattern = models.CharField(max_length=64, help_text="a device id, with * and ?")
    channel = models.ForeignKey("streams.Channel", on_delete=models.CASCADE)
    position = models.PositiveIntegerField(default=0)

    objects: ClassVar[OwnedQuerySet["ActivationRule"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["position", "id"]


class DurableSession(models.Model):
    """An MQTT session that outlives its connections, with what it subscribed to."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    client_id = models.TextField()
    subscriptions = models.JSONField(default=list)  # fields of ingest.mqtt.packets.Subscription
    expires_at = models.DateTimeField(null=True)  # set while its client is away

    objects: ClassVar[OwnedQuerySet["DurableSession"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "client_id"], name="one_durable_session")]


class MqttSession(models.Model):
    """A connected client; see presence.py."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="sessions")
    gateway = models.IntegerField()  # key of the lock that the gateway process holds while it lives
    client_id = models.TextField()
    ipaddress = models.CharField(max_length=45)
    clean_sess = models.BooleanField()
    proto_ver = models.PositiveSmallIntegerField()
    keepalive = models.PositiveIntegerField()
    connected_at = models.DateTimeField()

    objects: ClassVar[OwnedQuerySet["MqttSession"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["gateway", "user", "client_id"], name="one_connection_a_client")
        ]
