"""A device that stops, and a platform that is restarted: a gateway, a worker, and seconds that pass."""

import time
from collections.abc import Iterator

import pytest
from mqtt_clients import Device
from stack import Stack, wait_until
from support import Account

from thingscale.devices import listening
from thingscale.devices.models import Activity, Listening, ListeningGap
from thingscale.events.actions import create_event
from thingscale.events.models import Incident

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

PERIOD = 10
IN_TIME = 5
BUSY = 10  # seconds that a machine with much to do may need more
RETURN = listening.RETURN.total_seconds()  # if it is so busy that no mark is made for long: that is a gap


@pytest.fixture
def running(transactional_db: None) -> Iterator[Stack]:
    stack = Stack()
    stack.ensure("ingest", "celery")
    yield stack
    stack.stop()


def silent() -> list[str]:
    return list(Incident.objects.filter(ended_at=None).values_list("device_id", flat=True))


def test_who_stops_is_noticed_and_a_restart_is_not(running: Stack, account: Account) -> None:
    for name in ("stops", "goes-on"):
        account.device(name)
    create_event(account.user, {"kind": "silence", "notify_type": "none", "period": PERIOD})

    def publish(device: Device, seconds: float, *names: str) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for name in names:
                assert device.publish(f"json/{name}", b"1", qos=1) == 0
            time.sleep(0.5)

    with Device(running, account) as device:
        publish(device, 3, "stops", "goes-on")
        stopped = gap_at = time.monotonic()
        gaps = 0  # but for the first one, which was before the gateway
        while not silent():
            publish(device, 0.5, "goes-on")
            known, gaps = gaps, ListeningGap.objects.count() - 1
            if gaps != known or ListeningGap.objects.filter(ended_at=None).exists():
                gap_at = time.monotonic()
            # Each gap gives it some time to return, after the last one of them.
            assert time.monotonic() < gap_at + gaps * RETURN + PERIOD + IN_TIME + BUSY
        assert time.monotonic() - stopped > PERIOD - 1
        assert silent() == ["stops"]
        incident = Incident.objects.get()
        last = Activity.objects.get(device__device_id="stops")
        if ListeningGap.objects.count() == 1:
            assert (incident.started_at - last.last_seen).total_seconds() == PERIOD
        wait_until(
            lambda: Activity.objects.filter(device__device_id="stops", silent_since__isnull=False).exists()
        )
        running.kill("ingest")
    time.sleep(PERIOD + 3)
    assert silent() == ["stops"]
    running.ensure("ingest")
    wait_until(Listening.objects.exists, what="somebody to listen")
    for _ in range(PERIOD):
        assert silent() == ["stops"]
        time.sleep(1)
    assert ListeningGap.objects.filter(ended_at=None).exists() is False
    with Device(running, account) as device:
        publish(device, 3, "goes-on", "stops")
        wait_until(lambda: not silent(), what="the incident to be over")
    assert Incident.objects.count() == 1
