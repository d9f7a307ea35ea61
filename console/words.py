"""What the console calls things, by the kind of the account: a device of Servwatch is a host."""

from typing import NamedTuple

from django.http import HttpRequest

from thingscale.accounts.limits import Kind


class Words(NamedTuple):
    device: str
    devices: str
    streams: str
    about_devices: str  # why one would connect some


WORDS = {
    Kind.THINGSCALE: Words("device", "devices", "streams", "What it sends is stored, shown and watched."),
    Kind.SERVWATCH: Words("host", "hosts", "metrics", "Its processor, memory, disks and network are shown."),
}


def words(request: HttpRequest) -> dict[str, object]:
    account = getattr(request, "account", None)
    kind = Kind.THINGSCALE if account is None else Kind(account.kind)
    return {
        "words": WORDS[kind],
        "servwatch": kind == Kind.SERVWATCH,
        "has_hosts": account is not None and account.has_hosts,
    }
