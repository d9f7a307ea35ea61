"""Warns of messages that stay held although their devices can store, since the account has no room for their
tags. A change of many devices at once does so, where a change of one device is refused."""

from django.contrib import messages

from console.request import ConsoleRequest
from thingscale.accounts.limits import MORE, WORDS
from thingscale.devices.models import Device
from thingscale.lib.plurals import counted


def warn(request: ConsoleRequest) -> None:
    ready = Device.objects.for_account(request.account).enabled().filter(mapped_channel__isnull=False)
    count = ready.filter(held__isnull=False).distinct().count()
    if count:
        tags = counted(request.account.max_tags, "tag")
        messages.warning(
            request,
            f"What is held for {counted(count, 'device')} is not stored: it has new tags, and you can have"
            f" {tags} in all channels. {WORDS['tags'].remedy}, {MORE}: it is stored within ten minutes then.",
        )
