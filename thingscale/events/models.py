"""Events: a threshold for a value of a channel, and whom to notify."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from thingscale.accounts.tenancy import OwnedQuerySet


class Event(models.Model):
    """An event without channel, source or threshold is kept and does nothing."""

    class Notify(models.TextChoices):
        EMAIL = "email"
        HTTP = "http"

    class Operator(models.TextChoices):
        EQUAL = "="
        LESS = "<"
        GREATER = ">"
        AT_MOST = "<="
        AT_LEAST = ">="
        UNEQUAL = "!="

    class Repeat(models.TextChoices):
        EVERY = "every"  # each datapoint that matches
        CROSSING = "crossing"  # the first one that matches after one that did not

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="events")
    number = models.PositiveIntegerField()  # the contract's event_id
    mapped_channel = models.ForeignKey(
        "streams.Channel", on_delete=models.SET_NULL, null=True, related_name="events"
    )
    description = models.CharField(max_length=1000, blank=True)
    notify_type = models.CharField(max_length=5, choices=Notify, default=Notify.EMAIL)
    post_url = models.CharField(max_length=2000, blank=True)
    enabled = models.BooleanField(default=True)
    source = models.CharField(max_length=1000, blank=True)  # a path into the value: data:temp
    operator = models.CharField(max_length=2, choices=Operator, default=Operator.EQUAL)
    threshold = models.CharField(max_length=1000, blank=True)
    repeat = models.CharField(max_length=8, choices=Repeat, default=Repeat.EVERY)
    min_interval = models.PositiveIntegerField(default=0, help_text="seconds between two notifications")
    created_at = models.DateTimeField(default=timezone.now)

    objects: ClassVar[OwnedQuerySet["Event"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "number"], name="one_event_number_a_user")]
        ordering = ["number"]

    def __str__(self) -> str:
        return f"event {self.number}"


class LastNumber(models.Model):
    """The last event_id a user was given: the number of a deleted event never comes again."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True)
    number = models.PositiveIntegerField(default=0)
