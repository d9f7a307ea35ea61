from typing import TYPE_CHECKING, Self

from django.db.models import F

from thingscale.accounts.tenancy import OwnedQuerySet
from thingscale.devices.models import Device

if TYPE_CHECKING:
    from thingscale.hosts.models import Host  # noqa: F401 (named in strings)


class HostQuerySet(OwnedQuerySet["Host"]):
    def search(self, text: str) -> Self:
        return self.filter(device__in=Device.objects.search(text))

    def with_device(self) -> Self:
        """Those whose device is switched on; adds `last_seen` and `name`."""
        found = self.filter(device__enabled=True).select_related("device__mapped_channel")
        return found.annotate(last_seen=F("device__activity__last_seen"), name=F("device__device_id"))
