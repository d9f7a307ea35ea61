"""How much an account may have. A new account gets the values of the settings, and the operator can change
them for each account."""

from typing import Any, NamedTuple

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

MAX_LABELLED_KEYS = 1_000  # of one channel: they are on one page, in one form
SPARE_PERCENT = 10  # over its storage, for an account whose oldest datapoints are dropped once a minute


class WhenFull(models.TextChoices):
    """What happens when the storage is full."""

    REFUSE = "refuse", gettext_lazy("Refuse new data")
    DROP_OLDEST = "drop_oldest", gettext_lazy("Delete the oldest datapoints")


class Kind(models.TextChoices):
    """What an account is mostly for. The platform does the same for both."""

    THINGSCALE = "thingscale", "ThingScale"  # devices
    SERVWATCH = "servwatch", "Servwatch"  # servers, with a limit of REST calls that is lower


SERVWATCH_REST_RATE = 3  # a second, or what the settings have, if that is less


class Words(NamedTuple):
    """What pages and mails say of a limit."""

    name: Any
    full: Any  # what happens once all is used
    remedy: Any


# By the names in `GET /v2/user`. Rejected messages are missing: nothing is refused, and the newest are kept.
# Unread messages are missing, too: they come and go in seconds.
WORDS = {
    "storage": Words(
        gettext_lazy("Storage"),
        gettext_lazy("new data is refused"),
        gettext_lazy("Delete channels, tags or old datapoints (by a channel's retention)"),
    ),
    "devices": Words(
        gettext_lazy("Devices"),
        gettext_lazy("what a new device sends is refused"),
        gettext_lazy("Delete devices that are no longer used"),
    ),
    "channels": Words(
        gettext_lazy("Channels"),
        gettext_lazy("no channel can be made"),
        gettext_lazy("Delete channels that are no longer used"),
    ),
    "tags": Words(
        gettext_lazy("Tags"),
        gettext_lazy("what comes with a new tag is refused"),
        gettext_lazy("Delete tags that are no longer used"),
    ),
    "keys": Words(
        gettext_lazy("Keys with a label in a channel"),
        gettext_lazy("no further key of that channel gets a label"),
        gettext_lazy("Take away labels that are no longer used"),
    ),
    "events": Words(
        gettext_lazy("Events"),
        gettext_lazy("no event can be made"),
        gettext_lazy("Delete events that are no longer used"),
    ),
    "activation_rules": Words(
        gettext_lazy("Activation rules"),
        gettext_lazy("no rule can be made"),
        gettext_lazy("Delete rules that are no longer used"),
    ),
    "held": Words(
        gettext_lazy("Held messages"),
        gettext_lazy("what devices without a channel send is refused"),
        gettext_lazy("Map the devices that they wait for, or delete those"),
    ),
    "retained": Words(
        gettext_lazy("Retained messages"),
        gettext_lazy("no further topic can have one"),
        gettext_lazy("Clear some: publish to their topics with retain and no payload"),
    ),
    "connections": Words(
        gettext_lazy("MQTT connections"),
        gettext_lazy("no further client can connect"),
        gettext_lazy("Disconnect clients that you can spare"),
    ),
    "durable_sessions": Words(
        gettext_lazy("Durable MQTT sessions"),
        gettext_lazy("no further client gets one"),
        gettext_lazy(
            "Let clients that you no longer use connect once with a clean session, or wait until theirs end"
        ),
    ),
    "queued": Words(
        gettext_lazy("Messages queued for durable MQTT sessions"),
        gettext_lazy("what is published is left out of their queues"),
        gettext_lazy("Connect their clients, or end the sessions that you no longer use"),
    ),
    "subscriptions": Words(
        gettext_lazy("MQTT subscriptions"),
        gettext_lazy("no further one can be made"),
        gettext_lazy("Unsubscribe from what you can spare, or end durable sessions that you no longer use"),
    ),
}
IN_BYTES = frozenset({"storage", "queued"})
DROPPING = Words(
    gettext_lazy("Storage"),
    gettext_lazy("the oldest datapoints are deleted"),
    gettext_lazy("To keep them, delete channels or tags that you can spare"),
)
MORE = gettext_lazy("or ask the operator for more")


NOUNS = {
    "channel": ngettext_lazy("%(count)s channel", "%(count)s channels", "number"),
    "contact point": ngettext_lazy("%(count)s contact point", "%(count)s contact points", "number"),
    "device": ngettext_lazy("%(count)s device", "%(count)s devices", "number"),
    "event": ngettext_lazy("%(count)s event", "%(count)s events", "number"),
    "intake": ngettext_lazy("%(count)s intake", "%(count)s intakes", "number"),
    "rule": ngettext_lazy("%(count)s rule", "%(count)s rules", "number"),
}


def use_in_words(name: str, used: int, limit: int, when_full: str) -> str:
    """How much of a limit is used, what happens when all is, and what to do."""
    words = DROPPING if name == "storage" and when_full == WhenFull.DROP_OLDEST else WORDS[name]
    how_much = _("%(used)s of %(limit)s") % (
        {"used": filesizeformat(used), "limit": filesizeformat(limit)}
        if name in IN_BYTES
        else {"used": f"{used:,}", "limit": f"{limit:,}"}
    )
    full = str(words.full)
    values = {"name": words.name, "used": how_much, "remedy": _remedy(words), "percent": 100 * used // limit}
    if used >= limit:
        values["full"] = full[:1].upper() + full[1:]
        return _("%(name)s: full, %(used)s used. %(full)s now. %(remedy)s") % values
    values["full"] = full
    return _("%(name)s: %(percent)s %% used, %(used)s. Once full, %(full)s. %(remedy)s") % values


def _remedy(words: Words) -> str:
    return _("%(remedy)s, %(more)s.") % {"remedy": words.remedy, "more": MORE}


def no_more_than(limit: int, noun: str) -> str:
    """The sentence for a request to make one too many."""
    most = NOUNS[noun] % {"number": limit, "count": f"{limit:,}"}
    return _("You can have %(most)s: delete one first, %(more)s.") % {"most": most, "more": MORE}


def no_room_for_tags(wanted: int, limit: int) -> str:
    more = ngettext("%(count)s more tag", "%(count)s more tags", wanted) % {"count": f"{wanted:,}"}
    return _(
        "There is no room for %(tags)s: you can have %(limit)s in all channels."
        " Delete tags that are no longer used, %(more)s."
    ) % {"tags": more, "limit": f"{limit:,}", "more": MORE}


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
