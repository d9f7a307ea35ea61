"""What came for an account: messages, and an account as large as one gets."""

from django.utils import timezone
from support import Account

from thingscale.devices.models import Activity, Device, HeldMessage, RejectedMessage
from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.streams.actions.datapoints import store_points
from thingscale.streams.models import Channel, Latest

MOST_QUERIES = 12
DEVICES, CHANNELS = 10_000, 1000


def new_device(account: Account, device_id: str = "pump", value: object = None) -> Device:
    """Made by its first message, which is held."""
    device = Device.objects.create(user=account.user, device_id=device_id, enabled=False)
    Activity.objects.create(device=device, last_seen=timezone.now(), messages=1)
    held = {"temp": 21.5} if value is None else value
    HeldMessage.objects.create(device=device, value=held, received_at=timezone.now())
    return device


def reject(
    account: Account, device_id: str = "pump", payload: bytes = b"{oops", source: str = "json"
) -> None:
    RejectedMessage.objects.create(
        user=account.user,
        device_id=device_id,
        source=source,
        reason="BAD_JSON_FORMAT",
        payload=payload,
        size=len(payload),
        received_at=timezone.now(),
    )


def store(
    account: Account, number: int = 7, value: bytes = b'{"temp": 21.5}', tag: str | None = None
) -> None:
    store_points(account.channel(number), Points.of([(tag, value, now_us())]))


def large(account: Account) -> None:
    """Every tenth device is new, each with a held message; every channel has been written to."""
    now = timezone.now()
    channels = Channel.objects.bulk_create(
        Channel(user=account.user, number=number) for number in range(CHANNELS)
    )
    devices = Device.objects.bulk_create(
        Device(
            user=account.user,
            device_id=f"d{place}",
            enabled=bool(place % 10),
            activate_at=now if place % 10 else None,
            mapped_channel=channels[place % CHANNELS] if place % 10 else None,
        )
        for place in range(DEVICES)
    )
    Activity.objects.bulk_create(Activity(device=d, last_seen=now, messages=1) for d in devices)
    HeldMessage.objects.bulk_create(
        HeldMessage(device=d, value=1, received_at=now) for d in devices if not d.enabled
    )
    Latest.objects.bulk_create(
        Latest(channel=channel, tag=Latest.UNTAGGED, at=now, value=1, count=10, bytes=400)
        for channel in channels
    )
