from uuid import uuid4

import pytest
from stack import wait_until
from support import Account

from ingest.gateway.presence import Known, PresenceWriter
from ingest.service import connect
from thingscale.devices import presence
from thingscale.devices.models import MqttSession
from thingscale.devices.presence import Presence
from thingscale.lib.clock import now_us

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("step", [60, -60])
def test_the_clients_of_before_have_new_times_once_the_database_s_clock_is_set(
    account: Account, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Else a gateway could take a client that comes after the step for the earlier one."""
    key = account.user.pk, "c"
    client = Presence(*key, "192.0.2.1", True, 4, 60, 0.0)
    writer = PresenceWriter(connect, uuid4(), Known(lambda: [key], {key: client}.get))
    writer.start()
    try:
        wait_until(MqttSession.objects.exists, 60, "the client to be listed")
        before = MqttSession.objects.get().connected_at
        monkeypatch.setattr(presence, "now_us", lambda: now_us() + step * 1_000_000)

        def moved() -> bool:
            return abs((MqttSession.objects.get().connected_at - before).total_seconds() - step) < 1

        wait_until(moved, 60, "its time to be written again")
    finally:
        writer.stop()
