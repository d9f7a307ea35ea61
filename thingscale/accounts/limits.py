"""How much an account may have. A new account gets the values of the settings; the operator can change each
for an account."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

MOST_KEYS = 1_000  # of one channel: they are on one page, in one form
SPARE_PERCENT = 10  # over its storage, for an account whose oldest datapoints are dropped once a minute


class WhenFull(models.TextChoices):
    """What happens when the storage is full."""

    REFUSE = "refuse", "Refuse new data"
    DROP_OLDEST = "drop_oldest", "Delete the oldest datapoints"


def storage_bound(max_storage: int, when_full: str) -> int:
    """Bytes at which nothing more is taken."""
    spare = SPARE_PERCENT if when_full == WhenFull.DROP_OLDEST else 0
    return max_storage + max_storage * spare // 100


class Limits(models.Model):
    """Of an account. Columns have defaults in the database, so that older code can add rows."""

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
        validators=[MaxValueValidator(MOST_KEYS)],
        help_text="of a channel, with a label or a unit",
    )
    max_events = models.PositiveIntegerField(default=1_000, db_default=1_000)
    max_rules = models.PositiveIntegerField(default=100, db_default=100, help_text="for activation")
    max_held = models.PositiveIntegerField(
        default=100_000, db_default=100_000, help_text="messages that wait for their device to be mapped"
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

    def set_defaults(self) -> None:
        """The limits of a new account."""
        for name, value in defaults().items():
            setattr(self, name, value)


def defaults() -> dict[str, int | str]:
    return {name: getattr(settings, name.upper()) for name in NAMES}


NAMES = frozenset(
    {
        *("rest_rate", "max_storage", "when_full", "max_devices", "max_channels", "max_tags", "max_keys"),
        *("max_events", "max_rules", "max_held", "max_rejected"),
    }
)
