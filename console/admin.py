"""What the operator's admin shows. What other apps have registered is taken out: it shows secrets."""

from django.contrib import admin

from console.operator.accounts import AccountAdmin
from console.operator.data import ChannelAdmin, DeviceAdmin, EventAdmin, RejectedAdmin
from thingscale.accounts.models import User
from thingscale.devices.models import Device, RejectedMessage
from thingscale.events.models import Event
from thingscale.streams.models import Channel

for model in list(admin.site._registry):
    admin.site.unregister(model)

admin.site.register(User, AccountAdmin)
admin.site.register(Device, DeviceAdmin)
admin.site.register(Channel, ChannelAdmin)
admin.site.register(Event, EventAdmin)
admin.site.register(RejectedMessage, RejectedAdmin)
