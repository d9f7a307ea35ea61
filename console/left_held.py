"""Says which messages stay held although their devices can store: there is no room for the tags that they
bring. For what changes many devices at once, and so can't be refused for one of them."""

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
