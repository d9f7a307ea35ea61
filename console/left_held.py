"""Warns of messages that stay held although their devices can store, since the account has no room for their
tags. A change of many devices at once does so, where a change of one device is refused."""

from django.contrib import messages
from django.utils.translation import gettext as _

from console.request import ConsoleRequest
from console.vocabulary import counted
from thingscale.accounts.limits import MORE, WORDS
from thingscale.devices.models import Device


def warn(request: ConsoleRequest) -> None:
    ready = Device.objects.for_account(request.account).enabled().filter(mapped_channel__isnull=False)
    count = ready.filter(held__isnull=False).distinct().count()
    if count:
        tags = counted(request.account.max_tags, "tag")
        messages.warning(
            request,
            _(
                "What is held for %(devices)s is not stored: it has new tags, and you can have"
                " %(tags)s in all channels. %(remedy)s, %(more)s: it is stored within ten"
                " minutes then."
            )
            % {
                "devices": counted(count, "device"),
                "tags": tags,
                "remedy": WORDS["tags"].remedy,
                "more": MORE,
            },
        )
