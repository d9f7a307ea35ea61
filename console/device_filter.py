"""Which devices a page is about: those with a text, in a state. The list, a bulk change and an export take
the same two parameters, `q` and `filter`."""

from collections.abc import Mapping
from typing import NamedTuple

from django.db.models import Count, Q
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy

from thingscale.accounts.models import Account
from thingscale.devices.models import Device
from thingscale.devices.querysets import ENABLED, NEW, SILENT, UNHEARD, UNMAPPED, DeviceQuerySet

FILTERS = ("all", "enabled", "unmapped", "silent", "unheard", "new", "disabled")
ORDERS = {
    "device_id": gettext_lazy("Device id, A to Z"),
    "-device_id": gettext_lazy("Device id, Z to A"),
    "-last_seen": gettext_lazy("Last seen, newest first"),
    "last_seen": gettext_lazy("Last seen, longest ago first"),
    "-created_at": gettext_lazy("Created, newest first"),
    "created_at": gettext_lazy("Created, oldest first"),
}


class DeviceFilter(NamedTuple):
    text: str = ""
    state: str = "all"

    @property
    def query(self) -> str:
        """The query string of a page's address; "" for all devices."""
        parameters = {"q": self.text, "filter": "" if self.state == "all" else self.state}
        return urlencode({name: value for name, value in parameters.items() if value})

    def devices(self, account: Account) -> DeviceQuerySet:
        return self._found(account).filter(_conditions()[self.state])

    def counts(self, account: Account) -> dict[str, int]:
        """How many devices with this text there are in each state."""
        found: dict[str, int] = self._found(account).aggregate(
            **{f"in_{name}": Count("pk", filter=condition) for name, condition in _conditions().items()}
        )
        return {name: found[f"in_{name}"] for name in FILTERS}

    def _found(self, account: Account) -> DeviceQuerySet:
        devices = Device.objects.for_account(account)
        return devices.search(self.text) if self.text else devices


def filter_from_query(parameters: Mapping[str, str]) -> DeviceFilter:
    """An unknown state means all."""
    state = parameters.get("filter", "")
    return DeviceFilter(parameters.get("q", "").strip(), state if state in FILTERS else "all")


def _conditions() -> dict[str, Q]:
    return {
        "all": ~Q(pk=None),
        "enabled": ENABLED,
        "unmapped": UNMAPPED,
        "silent": SILENT,
        "unheard": UNHEARD,
        "new": NEW,
        "disabled": ~ENABLED & ~NEW,
    }
