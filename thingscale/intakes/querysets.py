from typing import TYPE_CHECKING, Self

from thingscale.accounts.tenancy import OwnedQuerySet
from thingscale.intakes import keys
from thingscale.lib import tokens

if TYPE_CHECKING:
    from thingscale.intakes.models import Intake  # noqa: F401 (named in strings)


class IntakeQuerySet(OwnedQuerySet["Intake"]):
    def enabled(self) -> Self:
        """Of accounts that may send."""
        return self.filter(enabled=True, user__is_active=True, user__closed_at=None)

    def with_key(self, key: str) -> Self:
        if not keys.well_formed(key):
            return self.none()
        return self.filter(key_hash=tokens.digest(key))

    def with_topic(self) -> Self:
        """Those that MQTT clients publish to without a token. The first one with a filter that matches has
        it."""
        return self.exclude(topic="").order_by("user", "number")
