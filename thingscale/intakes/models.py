"""Intakes: doors for programs whose topics or payloads can't be changed, and what came in there last.

The tables have no constraints to accounts in the database: processes of the release before delete those, and
know nothing of these tables. `clean_up.py` deletes what is left behind.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from thingscale.accounts.tenancy import OwnedQuerySet
from thingscale.intakes.querysets import IntakeQuerySet
from thingscale.lib.ids import IntakePk


class Intake(models.Model):
    class Format(models.TextChoices):
        INFLUX = "influx", "InfluxDB line protocol"
        PROMETHEUS = "prometheus", "Prometheus remote write"
        OTLP = "otlp", "OpenTelemetry metrics"
        MAPPED = "mapped", "By a mapping"  # says where device, tag, value and time are

    id: IntakePk
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="intakes", db_constraint=False
    )
    number = models.PositiveIntegerField()  # unique within the account, and never given again
    name = models.CharField(max_length=100)
    format = models.CharField(max_length=10, choices=Format)
    preset = models.CharField(max_length=40, blank=True)  # the program that sends; "": none that we know
    # Of `mapped`; null: that of the preset, as this release has it.
    mapping = models.JSONField(null=True)
    options = models.JSONField(default=dict, db_default={})  # of the other formats
    # The first filter of MQTT topics without a token, for `mapped`; "": HTTP only. Processes of the release
    # before know this one alone.
    topic = models.CharField(max_length=1024, blank=True, default="", db_default="")
    more_topics = models.JSONField(default=list, db_default=[])  # the other filters
    enabled = models.BooleanField(default=True, db_default=True)
    key_hash = models.BinaryField(max_length=32, null=True, unique=True)  # null: nothing comes by HTTP
    key_hint = models.CharField(max_length=4, blank=True, default="", db_default="")  # the key's end
    rate = models.PositiveIntegerField(null=True)  # datapoints a second; null: what the account may
    created_at = models.DateTimeField(default=timezone.now)
    changed_at = models.DateTimeField(default=timezone.now)

    objects: ClassVar[IntakeQuerySet] = IntakeQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "number"], name="one_intake_number_a_user")]
        ordering = ["number"]

    def __str__(self) -> str:
        return f"intake {self.number}"

    @property
    def topics(self) -> list[str]:
        return [self.topic, *self.more_topics] if self.topic else []


def topic_fields(topics: Iterable[str]) -> dict[str, Any]:
    """Of an intake with these filters."""
    first, *more = [*dict.fromkeys(topics)] or [""]
    return {"topic": first, "more_topics": more}


class LastIntakeNumber(models.Model):
    """The last number that an account was given."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, db_constraint=False
    )
    number = models.PositiveIntegerField(default=0)


class IntakeMessage(models.Model):
    """One of the last messages of an intake, and what became of it when it came. Its device may have got its
    channel since."""

    KEPT = 20  # of an intake
    KEPT_DAYS = 7
    EXCERPT = 4096  # bytes of the body
    READINGS = 20
    SOURCE = 300  # characters

    class Outcome(models.TextChoices):
        STORED = "stored"
        HELD = "held"  # all of it, or a part: a device was new or had no channel
        NOTHING = "nothing"  # the mapping took nothing from it
        REJECTED = "rejected"

    intake = models.ForeignKey(
        Intake, on_delete=models.CASCADE, related_name="messages", db_constraint=False, db_index=False
    )
    received_at = models.DateTimeField()
    source = models.CharField(max_length=SOURCE)  # the topic, or the method and path without the key
    headers = models.JSONField(default=dict, db_default={})  # without secrets
    body = models.BinaryField()  # its first bytes
    size = models.PositiveIntegerField()  # of the whole body
    # The first ones: {"device_id", "tag", "value": JSON text, maybe cut, "at": microseconds or null}
    readings = models.JSONField(default=list, db_default=[])
    count = models.PositiveIntegerField(default=0, db_default=0)  # of all readings
    left_out = models.PositiveIntegerField(default=0, db_default=0)  # NaN and the like, which JSON has not
    outcome = models.CharField(max_length=8, choices=Outcome)
    reason = models.CharField(max_length=40, blank=True)
    detail = models.CharField(max_length=1000, blank=True)

    objects: ClassVar[OwnedQuerySet["IntakeMessage"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [
            models.Index(fields=["intake", "-id"], name="intakes_newest_messages"),
            models.Index(fields=["received_at"], name="intakes_old_messages"),
        ]
