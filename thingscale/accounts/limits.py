"""How much an account may have. A new account gets the values of the settings, and the operator can change
them for each account."""

from typing import NamedTuple

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.template.defaultfilters import filesizeformat

from thingscale.lib.plurals import counted

MAX_LABELLED_KEYS = 1_000  # of one channel: they are on one page, in one form
SPARE_PERCENT = 10  # over its storage, for an account whose oldest datapoints are dropped once a minute


class WhenFull(models.TextChoices):
    """What happens when the storage is full."""

    REFUSE = "refuse", "Refuse new data"
    DROP_OLDEST = "drop_oldest", "Delete the oldest datapoints"


class Kind(models.TextChoices):
    """What an account is mostly for. The platform does the same for both."""

    THINGSCALE = "thingscale", "ThingScale"  # devices
    SERVWATCH = "servwatch", "Servwatch"  # servers, with a limit of REST calls that is lower


SERVWATCH_REST_RATE = 3  # a second, or what the settings have, if that is less


class Words(NamedTuple):
    """What pages and mails say of a limit."""

    name: str
    full: str  # what happens once all is used
    remedy: str


# By the names in `GET /v2/user`. Rejected messages are missing: nothing is refused, and the newest are kept.
# Unread messages are missing, too: they come and go in seconds.
WORDS = {
    "storage": Words(
        "Storage",
        "new data is refused",
        "Delete channels, tags or old datapoints (by a channel's retention)",
    ),
    "devices": Words(
        "Devices", "what a new device sends is refused", "Delete devices that are no longer used"
    ),
    "channels": Words("Channels", "no channel can be made", "Delete channels that are no longer used"),
    "tags": Words("Tags", "what comes with a new tag is refused", "Delete tags that are no longer used"),
    "keys": Words(
        "Keys with a label in a channel",
        "no further key of that channel gets a label",
        "Take away labels that are no longer used",
    ),
    "events": Words("Events", "no event can be made", "Delete events that are no longer used"),
    "activation_rules": Words(
        "Activation rules", "no rule can be made", "Delete rules that are no longer used"
    ),
    "held": Words(
        "Held messages",
        "what devices without a channel send is refused",
        "Map the devices that they wait for, or delete those",
    ),
    "retained": Words(
        "Retained messages",
        "no further topic can have one",
        "Clear some: publish to their topics with retain and no payload",
    ),
    "connections": Words(
        "MQTT connections",
        "no further client can connect",
        "Disconnect clients that you can spare",
    ),
    "durable_sessions": Words(
        "Durable MQTT sessions",
        "no further client gets one",
        "Let clients that you no longer use connect once with a clean session, or wait until theirs end",
    ),
    "queued": Words(
        "Messages queued for durable MQTT sessions",
        "what is published is left out of their queues",
        "Connect their clients, or end the sessions that you no longer use",
    ),
    "subscriptions": Words(
        "MQTT subscriptions",
        "no further one can be made",
        "Unsubscribe from what you can spare, or end durable sessions that you no longer use",
    ),
}
IN_BYTES = frozenset({"storage", "queued"})
DROPPING = Words(
    "Storage", "the oldest datapoints are deleted", "To keep them, delete channels or tags that you can spare"
)
MORE = "or ask the operator for more"


def use_in_words(name: str, used: int, limit: int, when_full: str) -> str:
    """How much of a limit is used, what happens when all is, and what to do."""
    words = DROPPING if name == "storage" and when_full == WhenFull.DROP_OLDEST else WORDS[name]
    how_much = (
        f"{filesizeformat(used)} of {filesizeformat(limit)}" if name in IN_BYTES else f"{used:,} of {limit:,}"
    )
    remedy = f"{words.remedy}, {MORE}."
    if used >= limit:
        return f"{words.name}: full, {how_much} used. {words.full[0].upper()}{words.full[1:]} now. {remedy}"
    percent = 100 * used // limit
    return f"{words.name}: {percent} % used, {how_much}. Once full, {words.full}. {remedy}"


def no_more_than(limit: int, noun: str) -> str:
    """The sentence for a request to make one too many."""
    return f"You can have {counted(limit, noun)}: delete one first, {MORE}."


def no_room_for_tags(wanted: int, limit: int) -> str:
    return (
        f"There is no room for {counted(wanted, 'more tag')}: you can have {limit:,} in all channels."
        f" Delete tags that are no longer used, {MORE}."
    )


def storage_bound(max_storage: int, when_full: str) -> int:
    """How many bytes may be used before new data is refused."""
    spare = SPARE_PERCENT if when_full == WhenFull.DROP_OLDEST else 0
    return max_storage + max_storage * spare // 100


class Limits(models.Model):
    """The limits of an account. Columns have defaults in the database, so that older code can add rows."""

    max_devices = models.PositiveIntegerField(default=10_000)
    max_channels = models.PositiveIntegerField(default=10_000)
    max_storage = models.PositiveBigIntegerField(
        default=5_242_880_000,
        help_text="bytes of values; what is held or rejected counts too",
    )
    max_tags = models.PositiveIntegerField(default=10_000, db_default=10_000, help_text="of all channels")
    max_keys = models.PositiveIntegerField(
        default=1_000,
        db_default=1_000,
        validators=[MaxValueValidator(MAX_LABELLED_KEYS)],
        help_text="of a channel, with a label or a unit",
    )
    max_events = models.PositiveIntegerField(default=1_000, db_default=1_000)
    max_rules = models.PositiveIntegerField(default=100, db_default=100, help_text="for activation")
    max_held = models.PositiveIntegerField(
        default=100_000, db_default=100_000, help_text="messages that wait for their device to be mapped"
    )
    max_retained = models.PositiveIntegerField(
        default=100_000, db_default=100_000, help_text="topics with a retained message"
    )
    max_connections = models.PositiveIntegerField(
        default=10_000, db_default=10_000, help_text="MQTT clients that are connected to one gateway"
    )
    max_durable_sessions = models.PositiveIntegerField(
        default=10_000, db_default=10_000, help_text="MQTT sessions that outlive their connections"
    )
    max_queued = models.PositiveBigIntegerField(
        default=2 * 2**30,
        db_default=2 * 2**30,
        help_text="bytes that wait for durable MQTT sessions, each message counted in each of their queues",
    )
    max_rejected = models.PositiveIntegerField(
        default=1_000,
        db_default=1_000,
        validators=[MinValueValidator(1)],
        help_text="newest rejected messages that are kept",
    )
    when_full = models.CharField(
        "when storage is full",
        max_length=11,
        choices=WhenFull,
        default=WhenFull.REFUSE,
        db_default=WhenFull.REFUSE,
    )

    class Meta:
        abstract = True

    def limit(self, name: str) -> int:
        """`name` is one of WORDS."""
        if name == "subscriptions":
            return settings.SUBSCRIPTIONS  # the same for all accounts
        limit: int = getattr(self, "max_rules" if name == "activation_rules" else f"max_{name}")
        return limit

    def set_defaults(self, kind: str) -> None:
        """The limits of a new account."""
        for name, value in defaults(kind).items():
            setattr(self, name, value)


def defaults(kind: str) -> dict[str, int | str]:
    values = {name: getattr(settings, SETTINGS.get(name, name.upper())) for name in NAMES}
    if kind == Kind.SERVWATCH:
        values["rest_rate"] = min(SERVWATCH_REST_RATE, values["rest_rate"])
    return values


NAMES = frozenset(
    {
        *("rest_rate", "max_storage", "when_full", "max_devices", "max_channels", "max_tags", "max_keys"),
        *("max_events", "max_rules", "max_held", "max_rejected", "max_retained", "max_durable_sessions"),
        *("max_connections", "max_queued"),
    }
)
SETTINGS = {"max_durable_sessions": "DURABLE_SESSIONS", "max_connections": "ACCOUNT_CONNECTIONS"}  # of others
