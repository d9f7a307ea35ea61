from collections.abc import Callable
from typing import Any

import orjson
import pytest
from support import Account

from thingscale.devices.models import Activity, Device
from thingscale.lib import clock
from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.streams.actions.datapoints import store_points


@pytest.fixture
def host() -> Callable[..., Device]:
    """A device of the account that has sent these (tag, value) so many seconds ago."""

    def make(
        account: Account, device_id: str, sample: list[tuple[str, Any]], channel: int = 0, ago: float = 0
    ) -> Device:
        device = Device.objects.filter(user=account.user, device_id=device_id).first()
        device = device or account.device(device_id, channel)
        at = now_us() - int(ago * 1e6)
        points = [(tag or None, orjson.dumps(value), at) for tag, value in sample]
        store_points(account.channel(channel), Points.of(points))
        Activity.objects.update_or_create(
            device=device, defaults={"last_seen": clock.from_us(at), "messages": 1}
        )
        return device

    return make
