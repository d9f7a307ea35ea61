"""Events: what is watched, and whom to notify; what became of it, and what is owed to receivers.

The tables beside `Event` have no constraints to it, to accounts and to devices in the database: processes of
the release before delete those, and know nothing of these tables. `clean_up.py` deletes what is left behind.
"""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from thingscale.accounts import encryption
from thingscale.accounts.tenancy import OwnedQuerySet

ConditionKey = tuple[int, int, int]  # event, device and tag, by primary key; 0: none


class Event(models.Model):
    """An event without channel, source or threshold is kept and does nothing, unless it watches for
    silence."""

    class Kind(models.TextChoices):
        THRESHOLD = "threshold"  # the value, compared with `threshold` by `operator`
        RANGE = "range"  # a number outside of LOW..HIGH, which is what `threshold` says
        CHANGE = (
            "change"  # another value than before; with a threshold: a number that differs by more than it
        )
        RATE = "rate"  # a number that moved by more than `threshold` within `window` seconds
        # A number that gets to `threshold` within `period` seconds, if it goes on as in the last `window`
        TREND = "trend"
        SILENCE = "silence"  # a device that is not heard for `period` + `grace` seconds

    class Notify(models.TextChoices):
        EMAIL = "email"
        HTTP = "http"
        NONE = "none"  # only contact points are notified

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

    class Severity(models.TextChoices):
        INFO = "info"
        WARNING = "warning"
        CRITICAL = "critical"

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

    # Ours. Each default keeps the original's behaviour.
    kind = models.CharField(max_length=9, choices=Kind, default=Kind.THRESHOLD, db_default=Kind.THRESHOLD)
    # Only devices whose id matches: * and ?; empty: all of the channel, or of the account.
    devices = models.CharField(max_length=64, blank=True, default="", db_default="")
    hold = models.PositiveIntegerField(default=0, db_default=0)  # `for`: seconds that the condition must hold
    clear = models.CharField(max_length=1000, blank=True, default="", db_default="")  # it ends only past this
    window = models.PositiveIntegerField(default=0, db_default=0)  # seconds, of a rate and a trend
    period = models.PositiveIntegerField(default=0, db_default=0)  # seconds, of silence; ahead, of a trend
    grace = models.PositiveIntegerField(default=0, db_default=0)
    no_data_after = models.PositiveIntegerField(
        default=0, db_default=0
    )  # seconds without a datapoint; 0: never
    severity = models.CharField(
        max_length=8, choices=Severity, default=Severity.WARNING, db_default=Severity.WARNING
    )
    quiet_hours = models.CharField(max_length=11, blank=True, default="", db_default="")  # 22:00-06:00
    muted_until = models.DateTimeField(null=True)
    contact_points: "models.ManyToManyField[ContactPoint, EventContact]" = models.ManyToManyField(
        "ContactPoint", through="EventContact", related_name="events"
    )
    # When it was made another one: what writers saw before is of no interest any more.
    changed_at = models.DateTimeField(null=True)
    # For X-Signature of `http`; made with the event, or when it is first needed.
    secret_ciphertext = models.BinaryField(null=True)

    objects: ClassVar[OwnedQuerySet["Event"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "number"], name="one_event_number_a_user")]
        indexes = [models.Index(fields=["id"], name="events_silence", condition=models.Q(kind="silence"))]
        ordering = ["number"]

    def __str__(self) -> str:
        return f"event {self.number}"


class LastNumber(models.Model):
    """The last event_id a user was given: the number of a deleted event never comes again."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True)
    number = models.PositiveIntegerField(default=0)


class ContactPoint(models.Model):
    """A channel of one's own for notifications: the address of a service that Apprise knows."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="contact_points", db_constraint=False
    )
    name = models.CharField(max_length=100)
    ciphertext = models.BinaryField()  # the address has tokens and passwords in it
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects: ClassVar[OwnedQuerySet["ContactPoint"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="one_contact_point_a_name")]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def url(self) -> str:
        return encryption.decrypt(bytes(self.ciphertext), encryption.Purpose.NOTIFICATION)


class EventContact(models.Model):
    event = models.ForeignKey(Event, on_delete=models.CASCADE, db_constraint=False)
    contact_point = models.ForeignKey(ContactPoint, on_delete=models.CASCADE, db_constraint=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["event", "contact_point"], name="one_contact_once")]


class MaintenanceWindow(models.Model):
    """While it lasts, nothing is notified of devices whose id matches; what happens is recorded."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="maintenance_windows",
        db_constraint=False,
    )
    devices = models.CharField(max_length=64)  # * and ?
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    note = models.CharField(max_length=200, blank=True)

    objects: ClassVar[OwnedQuerySet["MaintenanceWindow"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["starts_at"]


class Observation(models.Model):
    """What a writer saw, in the transaction that stored the datapoint; deleted once the states follow it. The
    order is that of `id`, in an account."""

    class What(models.IntegerChoices):
        CLEARED = 0  # the condition does not hold any more
        MATCHED = 1
        LEFT_OUT = 2  # `count` matches of an account that had too many waiting

    account = models.BigIntegerField(default=0, db_default=0)  # primary key: accounts take turns
    event = models.BigIntegerField()
    device = models.BigIntegerField(default=0)  # 0: none
    tag = models.IntegerField(default=0)  # 0: none
    what = models.SmallIntegerField(choices=What)
    at = models.DateTimeField()  # of the datapoint
    value = models.TextField(default="")  # that was compared
    count = models.IntegerField(default=1, db_default=1)
    stored_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "events_observation"
        indexes = [
            models.Index(fields=["account", "id"], name="events_observations_in_turn"),
            # For doors that ask what is open of one event.
            models.Index(fields=["event"], name="events_matches", condition=models.Q(what=1)),
        ]


class RuleMemory(models.Model):
    """What an event of change or rate remembers of one device and tag (evaluate.py). Writers change it in the
    transaction that stores the datapoint."""

    event = models.BigIntegerField()
    device = models.BigIntegerField(default=0)  # primary key; 0: none
    tag = models.IntegerField(default=0)
    memory = models.TextField()

    class Meta:
        db_table = "events_rule_memory"
        constraints = [models.UniqueConstraint(fields=["event", "device", "tag"], name="one_rule_memory")]


class Condition(models.Model):
    """How it stands with an event for one device and tag."""

    class State(models.TextChoices):
        OK = "ok"
        PENDING = "pending"  # the condition holds, but not for `hold` seconds yet
        FIRING = "firing"
        NO_DATA = "no data"

    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="conditions", db_constraint=False)
    device = models.BigIntegerField(default=0)  # primary key; 0: none
    tag = models.IntegerField(default=0)
    state = models.CharField(max_length=7, choices=State, default=State.OK)
    since = models.DateTimeField()  # when the state began
    at = models.DateTimeField()  # of the last datapoint that changed or confirmed it
    value = models.TextField(blank=True)  # of that datapoint
    notified_at = models.DateTimeField(null=True)
    muted_until = models.DateTimeField(null=True)
    incident = models.ForeignKey(
        "Incident", on_delete=models.SET_NULL, null=True, related_name="+", db_constraint=False
    )
    changes = models.JSONField(default=list, db_default=[])  # times of the last changes, in seconds: flapping
    # What receivers heard last, as in states.py, and how much they were not told since.
    told = models.CharField(max_length=8, blank=True, default="", db_default="")
    left_out = models.IntegerField(default=0, db_default=0)
    due_at = models.DateTimeField(null=True)  # when time alone can change something

    class Meta:
        constraints = [models.UniqueConstraint(fields=["event", "device", "tag"], name="one_condition")]
        indexes = [
            models.Index(fields=["event"], name="events_open_conditions", condition=~models.Q(state="ok")),
            models.Index(
                fields=["due_at"], name="events_conditions_due", condition=models.Q(due_at__isnull=False)
            ),
        ]


class Incident(models.Model):
    """From firing until it is over. It keeps the words of its time: device, tag and threshold may change."""

    class Over(models.TextChoices):
        CLEARED = "cleared"
        NO_DATA = "no data"
        CHANGED = "changed"  # the event was changed, disabled or deleted

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="incidents", db_constraint=False
    )
    event = models.ForeignKey(
        Event, on_delete=models.SET_NULL, null=True, related_name="incidents", db_constraint=False
    )
    number = models.PositiveIntegerField()  # of the event
    title = models.CharField(max_length=1000)
    severity = models.CharField(max_length=8, choices=Event.Severity)
    channel = models.BigIntegerField(null=True)  # primary key
    device = models.BigIntegerField(default=0)
    device_id = models.CharField(max_length=64, blank=True)
    tag = models.CharField(max_length=128, blank=True)
    source = models.CharField(max_length=1000, blank=True)
    threshold = models.CharField(max_length=1000, blank=True)
    value = models.TextField(blank=True)  # with which it began
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    over = models.CharField(max_length=8, choices=Over, blank=True)
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=254, blank=True)  # the actor's e-mail

    objects: ClassVar[OwnedQuerySet["Incident"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [
            models.Index(fields=["user", "-started_at"], name="events_incidents_of_a_user"),
            models.Index(fields=["event", "-started_at"], name="events_incidents_of_an_event"),
            models.Index(fields=["user"], name="events_open_incidents", condition=models.Q(ended_at=None)),
        ]


class Delivery(models.Model):
    """A notification that is owed to one receiver, and what became of it. `id` is the contract's
    delivery_id."""

    class Transport(models.TextChoices):
        EMAIL = "email"
        HTTP = "http"
        CONTACT = "contact"  # a contact point, by Apprise

    class About(models.TextChoices):
        MATCH = "match"  # one datapoint of an event that repeats `every`
        FIRING = "firing"
        RESOLVED = "resolved"
        TEST = "test"
        BRAKE = "brake"  # says that further messages are left out

    class Status(models.TextChoices):
        WAITING = "waiting"
        SENT = "sent"
        FAILED = "failed"  # given up
        LEFT_OUT = (
            "left out"  # by the brake, quiet hours, a mute or a maintenance window: `answer` says which
        )

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="deliveries", db_constraint=False
    )
    event = models.ForeignKey(
        Event, on_delete=models.SET_NULL, null=True, related_name="deliveries", db_constraint=False
    )
    incident = models.ForeignKey(
        Incident, on_delete=models.SET_NULL, null=True, related_name="deliveries", db_constraint=False
    )
    contact_point = models.ForeignKey(
        ContactPoint, on_delete=models.SET_NULL, null=True, related_name="deliveries", db_constraint=False
    )
    transport = models.CharField(max_length=7, choices=Transport)
    about = models.CharField(max_length=8, choices=About)
    # What share, digest and brake count by: an e-mail address, a URL's host and port, "contact:PK".
    receiver = models.CharField(max_length=300)
    body = models.JSONField()  # the contract's object; the other transports make their text of it
    status = models.CharField(max_length=8, choices=Status, default=Status.WAITING, db_default=Status.WAITING)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())
    due_at = models.DateTimeField(default=timezone.now, db_default=Now())  # when it is tried next
    claimed_until = models.DateTimeField(null=True)  # a worker is sending it
    claimed_by = models.IntegerField(null=True)  # that worker (claims.py)
    tries = models.PositiveSmallIntegerField(default=0, db_default=0)
    done_at = models.DateTimeField(null=True)
    answer = models.CharField(
        max_length=300, blank=True, default="", db_default=""
    )  # of the receiver, or why not

    objects: ClassVar[OwnedQuerySet["Delivery"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [
            models.Index(
                fields=["created_at"], name="events_deliveries_waiting", condition=models.Q(status="waiting")
            ),
            models.Index(fields=["user", "-created_at"], name="events_deliveries_of_a_user"),
            models.Index(
                fields=["user", "receiver", "due_at"],
                name="events_deliveries_by_receiver",
                condition=models.Q(status="waiting"),
            ),
            models.Index(
                fields=["due_at"],
                name="events_deliveries_tests",
                condition=models.Q(status="waiting", about="test"),
            ),
            # Whether a receiver was told of late that something is left out.
            models.Index(
                fields=["user", "receiver", "created_at"],
                name="events_deliveries_brakes",
                condition=models.Q(about="brake"),
            ),
        ]


class SilenceRule(models.Model):
    """An event that watches for silence, as it was followed last; see silence.py."""

    event = models.BigIntegerField(primary_key=True)
    user = models.BigIntegerField()
    channel = models.BigIntegerField(null=True)
    devices = models.CharField(max_length=200)  # for LIKE
    silence = models.DurationField()  # period and grace
    changed_at = models.DateTimeField(null=True)
    followed_at = models.DateTimeField()


class SilenceWatch(models.Model):
    """A device that an event watches."""

    pk = models.CompositePrimaryKey("device", "event")
    device = models.BigIntegerField()
    event = models.BigIntegerField()
    due_at = models.DateTimeField(null=True)  # when it is looked at; null: it is silent
    silent_since = models.DateTimeField(null=True)
    seen = models.DateTimeField(null=True)  # if it is silent: when it was last heard
    unheard = models.BooleanField(default=False, db_default=False)  # it was never heard

    class Meta:
        indexes = [
            models.Index(fields=["event", "due_at"], name="events_silence_due"),
            models.Index(
                fields=["device"], name="events_silent", condition=models.Q(silent_since__isnull=False)
            ),
        ]


class ReceiverPace(models.Model):
    """How much a receiver that is meant for people was sent of late (pace.py). Times are in seconds."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_constraint=False
    )
    receiver = models.CharField(max_length=300)  # as of Delivery
    sent = models.JSONField(default=list, db_default=[])  # when messages went out in the last hour
    digest_at = models.FloatField(default=0, db_default=0)
    braked_until = models.FloatField(default=0, db_default=0)
    changed_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "receiver"], name="one_pace_a_receiver")]


class DismissedSuggestion(models.Model):
    """An event that an account does not want to be suggested again."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_constraint=False
    )
    channel = models.BigIntegerField()  # primary key
    source = models.CharField(max_length=1000, blank=True)  # "": silence

    objects: ClassVar[OwnedQuerySet["DismissedSuggestion"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "channel", "source"], name="one_dismissed_suggestion")
        ]


encryption.COLUMNS += [
    encryption.Column(ContactPoint, "ciphertext", encryption.Purpose.NOTIFICATION),
    encryption.Column(Event, "secret_ciphertext", encryption.Purpose.NOTIFICATION),
]


class Figure(models.Model):
    """What the workers count (figures.py)."""

    name = models.CharField(max_length=32)
    label = models.CharField(max_length=64, blank=True, default="", db_default="")
    value = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "label"], name="one_figure")]
