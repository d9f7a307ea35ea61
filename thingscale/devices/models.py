"""Devices, their activity, and messages: held, rejected, sent to devices, retained or queued for MQTT
sessions."""

from datetime import datetime, timedelta
from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from thingscale.accounts.tenancy import OwnedQuerySet
from thingscale.devices.listening import Door
from thingscale.devices.querysets import DeviceQuerySet, MinuteCountQuerySet
from thingscale.lib.ids import DevicePk
from thingscale.lib.names import DEVICE_ID_RULE, MAX_TAG, bad_device_id


def validate_device_id(device_id: str) -> None:
    if bad_device_id(device_id):
        raise ValidationError(_(DEVICE_ID_RULE))


class Device(models.Model):
    id: DevicePk
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="devices")
    device_id = models.CharField(max_length=64, validators=[validate_device_id])
    description = models.CharField(max_length=1000, blank=True, default="", db_default="")
    enabled = models.BooleanField(default=True)
    mapped_channel = models.ForeignKey(
        "streams.Channel", on_delete=models.SET_NULL, null=True, related_name="devices"
    )
    # The texts are in fields.py, too, from which REST, console and CSV take them.
    device_type = models.CharField(max_length=200, blank=True, default="", db_default="")
    location = models.CharField(max_length=200, blank=True, default="", db_default="")
    manufacturer = models.CharField(max_length=200, blank=True, default="", db_default="")
    created_at = models.DateTimeField(default=timezone.now)
    activate_at = models.DateTimeField(null=True)  # when it was first enabled; null: never, it is new
    state = models.JSONField(null=True)
    state_at = models.DateTimeField(null=True)

    # Only set by DeviceQuerySet.with_last_seen():
    last_seen: datetime | None
    silent_since: datetime | None
    objects: ClassVar[DeviceQuerySet] = DeviceQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "device_id"], name="one_device_id_a_user")]

    def __str__(self) -> str:
        return self.device_id


class DeletedDevice(models.Model):
    """The id of a device that has been deleted: rows of its datapoints go on naming it."""

    KEPT = 100_000  # of an account, the newest

    device = models.BigIntegerField(primary_key=True)  # Device's key, which never comes again
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    device_id = models.CharField(max_length=64)

    objects: ClassVar[OwnedQuerySet["DeletedDevice"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [models.Index(fields=["user", "device_id"], name="deleted_devices_by_id")]


class Activity(models.Model):
    """Ingest writes it every few seconds (ingest/activity.py). It has no constraint in the database, so that
    writing it locks no device. A task deletes the rows of deleted devices."""

    device = models.OneToOneField(Device, on_delete=models.CASCADE, primary_key=True, db_constraint=False)
    last_seen = models.DateTimeField()
    messages = models.BigIntegerField()  # stored, held, rejected or sent again
    # By which door the last one came; null: not known, from the release before.
    door = models.SmallIntegerField(null=True, choices=[(door.value, door.name) for door in Door])
    # While an event for silence fires for it: since when. See thingscale/events/silence.py.
    silent_since = models.DateTimeField(null=True)


class Listening(models.Model):
    """A process that hears devices; see listening.py."""

    writer = models.UUIDField(primary_key=True)
    door = models.SmallIntegerField(choices=[(door.value, door.name) for door in Door])
    at = models.DateTimeField()  # of its last mark
    until = models.DateTimeField()  # all that it heard before is written


class ListeningGap(models.Model):
    """A time in which a device may have spoken without being heard."""

    door = models.SmallIntegerField(choices=[(door.value, door.name) for door in Door])
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)  # null: nobody listens

    class Meta:
        indexes = [models.Index(fields=["ended_at"], name="listening_gaps_by_end")]


class MinuteCount(models.Model):
    """How many messages of an account were committed in a minute."""

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
    """A decoded message of a new or unmapped device. It is stored in the device's channel once it has one."""

    KEPT = 100  # of a device
    MAX_BYTES = 8 * 2**20  # of JSON text of a device; at least the newest message is kept

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="held")
    tag = models.CharField(max_length=MAX_TAG, null=True)
    value = models.JSONField()
    received_at = models.DateTimeField()
    dedupe = models.BigIntegerField(null=True)
    array = models.BooleanField(db_default=False)  # of {"at": microseconds, "tag", "value"}
    size = models.IntegerField(db_default=0)  # of the value's text; 0: from the release before, not counted


class RejectedMessage(models.Model):
    """A message that was refused, with the reason. The newest `max_rejected` of an account are kept."""

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
    # What is wrong with the payload, in addition to the reason.
    detail = models.TextField(blank=True, db_default="")

    objects: ClassVar[OwnedQuerySet["RejectedMessage"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [models.Index(fields=["user", "id"], name="newest_rejected_of_a_user")]


class Command(models.Model):
    """A message to a device; see commands.py."""

    KEPT = 1000  # of a user
    SENT = "sent"  # to the gateway
    DELIVERED = "delivered"  # to a subscriber
    ACKNOWLEDGED = "acknowledged"  # by one of those

    class By(models.TextChoices):
        API = "api"
        CONSOLE = "console"

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="commands", db_index=False
    )
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="commands")
    payload = models.BinaryField()
    qos = models.PositiveSmallIntegerField()
    retain = models.BooleanField(db_default=False, default=False)
    # Without the token; empty: the device's own topic.
    topic = models.TextField(blank=True, db_default="", default="")
    sent_at = models.DateTimeField(default=timezone.now)
    result = models.CharField(max_length=40, default=SENT)  # or the error's code
    by = models.CharField(max_length=7, choices=By)

    objects: ClassVar[OwnedQuerySet["Command"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [models.Index(fields=["user", "id"], name="newest_command_of_a_user")]


class ActivationRule(models.Model):
    """Enables and maps new devices whose id matches the pattern: to the channel, or each one to a channel of
    its own, which is made for it."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="activation_rules"
    )
    pattern = models.CharField(max_length=64, help_text="a device id, with * and ?")
    # null: each device its own. Processes of the release before do not know this.
    channel = models.ForeignKey("streams.Channel", on_delete=models.CASCADE, null=True)
    position = models.PositiveIntegerField(default=0)

    objects: ClassVar[OwnedQuerySet["ActivationRule"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["position", "id"]


class ClientSession(models.Model):
    """An MQTT session that outlives its connection, or has a will that outlives its gateway (mqtt_store/).
    Its messages are numbered: `next_seq` is the next one's. All up to `done_seq` are acknowledged, and so are
    those in `done`."""

    MAX_QUEUED = 10_000  # messages
    MAX_QUEUED_BYTES = 64 * 2**20

    account = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    client_id = models.TextField()
    gateway = models.UUIDField(null=True)  # the writer it is connected to
    epoch = models.BigIntegerField(db_default=0)  # how often it was opened
    expiry = models.BigIntegerField()  # seconds, after its connection has ended
    ends_at = models.DateTimeField(null=True)  # while its client is away
    next_seq = models.BigIntegerField(db_default=1)
    done_seq = models.BigIntegerField(db_default=0)
    done = ArrayField(models.BigIntegerField(), db_default=[])
    # The last message that was sent; null: not known, its client is connected.
    sent_seq = models.BigIntegerField(null=True)
    received_seq = ArrayField(models.BigIntegerField(), db_default=[])  # at QoS 2, not completed
    received = ArrayField(models.IntegerField(), db_default=[])  # packet ids of its own publishes at QoS 2
    queued_bytes = models.BigIntegerField(db_default=0)
    dropped = models.BigIntegerField(db_default=0)  # messages that its queue had no room for
    will = models.BinaryField(null=True)  # a PUBLISH packet of MQTT 5
    will_delay = models.BigIntegerField(db_default=0)  # seconds
    will_at = models.DateTimeField(null=True)  # when it is due, while its client is away

    class Meta:
        db_table = "mqtt_session"
        constraints = [models.UniqueConstraint(fields=["account", "client_id"], name="one_session_a_client")]
        indexes = [
            models.Index(fields=["will_at"], name="mqtt_wills", condition=models.Q(will_at__isnull=False))
        ]


class Subscription(models.Model):
    """A subscription of a durable session. Its filter is without the token."""

    pk = models.CompositePrimaryKey("session", "group", "filter")
    session = models.BigIntegerField()
    group = models.TextField(blank=True)  # of a shared subscription
    filter = models.TextField(db_collation="C")
    options = models.SmallIntegerField()  # as SUBSCRIBE has them
    identifier = models.BigIntegerField()

    class Meta:
        db_table = "mqtt_subscription"


class QueuedMessages(models.Model):
    """Messages of a batch that the same sessions wait for, as PUBLISH packets of MQTT 5 whose topics are
    without the token."""

    packets = models.BinaryField()
    at = models.DateTimeField()
    command = models.BigIntegerField(db_default=0)  # Command, if it is one

    class Meta:
        db_table = "mqtt_message"


class Queued(models.Model):
    """A session that waits for some QueuedMessages."""

    pk = models.CompositePrimaryKey("session", "seq")
    session = models.BigIntegerField()
    seq = models.BigIntegerField()  # of the first one
    last_seq = models.BigIntegerField()
    options = models.SmallIntegerField()  # of the subscription, as SUBSCRIBE has them
    identifiers = ArrayField(models.BigIntegerField(), db_default=[])
    messages = models.BigIntegerField()  # QueuedMessages
    size = models.BigIntegerField()  # bytes

    class Meta:
        db_table = "mqtt_queue"
        indexes = [models.Index(fields=["messages"], name="queues_of_messages")]


class Retained(models.Model):
    """The retained message of a topic. The topic is without the token."""

    pk = models.CompositePrimaryKey("account", "topic")
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    topic = models.TextField(db_collation="C")  # so that the topics below a level follow each other
    payload = models.BinaryField()
    qos = models.SmallIntegerField()
    properties = models.BinaryField()  # as PUBLISH has them
    at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "mqtt_retained"


class Published(models.Model):
    """A message of an app on its way to the gateways (commands.py). One gateway puts it into the queues of
    durable sessions; each gives it to the clients that are connected to it."""

    account = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    topic = models.TextField()  # without the token
    payload = models.BinaryField()
    qos = models.SmallIntegerField()
    retain = models.BooleanField(db_default=False)
    command = models.BigIntegerField()
    at = models.DateTimeField(db_default=Now())
    gateway = models.UUIDField(null=True)  # that puts it into the queues
    done = models.BooleanField(db_default=False)  # it has

    class Meta:
        db_table = "mqtt_publish"


class DurableSession(models.Model):
    """A ClientSession of the release before. It is converted when it is opened."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    client_id = models.TextField()
    subscriptions = models.JSONField(default=list)  # fields of ingest.mqtt.packets.Subscription
    expires_at = models.DateTimeField(null=True)  # set while its client is away

    objects: ClassVar[OwnedQuerySet["DurableSession"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "client_id"], name="one_durable_session")]


class GatewayProcess(models.Model):
    """A gateway, and its figures of some seconds ago; see presence.py."""

    key = models.IntegerField(primary_key=True)  # of the lock that it holds while it lives
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField(db_default=Now())
    messages = models.PositiveBigIntegerField(db_default=0)  # taken and stored since its start
    rate = models.FloatField(db_default=0)  # of those, a second
    waiting = models.PositiveIntegerField(db_default=0)  # messages, for storage
    dropped = models.PositiveBigIntegerField(db_default=0)  # messages at QoS 0, for lack of room
    refused = models.PositiveBigIntegerField(db_default=0)  # connections

    clients = 0  # signed in, where presence.py has counted them

    @property
    def name(self) -> str:
        """For operators only, since it reveals the machine."""
        return f"{self.host}/{self.pid}" if self.pid else "of another release"


class GatewayUse(models.Model):
    """How much of a gateway's memory an account's clients used some seconds ago; see presence.py."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    gateway = models.IntegerField()  # as in MqttSession
    subscriptions = models.PositiveIntegerField()
    unread_bytes = models.PositiveBigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["gateway", "user"], name="one_use_an_account")]


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

    gateway_name = ""  # where an operator looks

    objects: ClassVar[OwnedQuerySet["MqttSession"]] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["gateway", "user", "client_id"], name="one_connection_a_client")
        ]
