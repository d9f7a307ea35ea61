"""What the console calls things, by the kind of the account: a device of Servwatch is a host."""

from typing import NamedTuple

from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from thingscale.accounts.limits import Kind


class Words(NamedTuple):
    device: str | Promise
    devices: str | Promise
    streams: str | Promise
    about_devices: str | Promise  # why one would connect some


WORDS = {
    Kind.THINGSCALE: Words(
        _("device"), _("devices"), _("streams"), _("What it sends is stored, shown and watched.")
    ),
    Kind.SERVWATCH: Words(
        _("host"), _("hosts"), _("metrics"), _("Its processor, memory, disks and network are shown.")
    ),
}


def words(request: HttpRequest) -> dict[str, object]:
    account = getattr(request, "account", None)
    kind = Kind.THINGSCALE if account is None else Kind(account.kind)
    return {
        "words": WORDS[kind],
        "servwatch": kind == Kind.SERVWATCH,
        "has_hosts": account is not None and account.has_hosts,
    }
