"""A thousand devices with periods from ten seconds to a day, of which ten stop; and what a hundred thousand
cost."""

import math
import random
import time
from collections import Counter

import psycopg
import pytest
from django.db import connection as django_connection
from django.utils import timezone
from silent_world import listened, listens, pass_, quiet, silent_ones
from support import Account

from thingscale.devices import listening
from thingscale.devices.listening import Door
from thingscale.devices.models import Activity, Device
from thingscale.events import silence
from thingscale.events.models import Observation

PERIODS = (10, 30, 60, 300, 900, 3600, 6 * 3600, 86_400)  # the grace is half of it
UNWRITTEN = 2.5  # seconds of what was heard that are not written
IN_TIME = 5.0
RETURN = listening.RETURN.total_seconds()
OUTAGES = {1000.0: 20.0, 50_000.0: 600.0}  # when the platform is restarted, and for how long it is away
END = 350_000.0


class Fleet:
    """Devices by primary key, in simulated seconds."""

    def __init__(self, periods: dict[int, int]) -> None:
        self.rng = random.Random(4)
        self.periods = periods
        self.spoke = {pk: -self.rng.uniform(0, period) for pk, period in periods.items()}
        self.written = dict(self.spoke)
        self.next = {pk: self._after(pk, at) for pk, at in self.spoke.items()}
        stopping = [pk for number, pk in enumerate(sorted(periods)) if number % 100 == 7]
        self.stops = {pk: self.rng.uniform(0, 3000) for pk in stopping}
        self.returns: dict[int, float] = {}
        self.gaps: list[tuple[float, float]] = []

    def _after(self, pk: int, at: float) -> float:
        return at + self.rng.uniform(0.5, 1.2) * self.periods[pk]

    def silent(self, pk: int) -> bool:
        return pk in self.stops and self.next[pk] >= self.stops[pk] and pk not in self.returns

    def speak(self, clock: float) -> list[tuple[int, float]]:
        """Until now. Returns who is written as heard at which time."""
        found: dict[int, float] = {}
        for pk, period in self.periods.items():
            while not self.silent(pk) and self.next[pk] <= clock:
                if clock - self.next[pk] > 10 * period:  # nobody looked meanwhile
                    self.next[pk] = clock - UNWRITTEN - self.rng.uniform(0.1, 1) * period
                self._write(pk, clock - UNWRITTEN, found)
                self.spoke[pk], self.next[pk] = self.next[pk], self._after(pk, self.next[pk])
            self._write(pk, clock - (UNWRITTEN if self.rng.random() < 0.5 else 0), found)
        return list(found.items())

    def _write(self, pk: int, until: float, found: dict[int, float]) -> None:
        if self.written[pk] < self.spoke[pk] <= until:
            self.written[pk] = found[pk] = self.spoke[pk]

    def outage(self, began: float, ended: float) -> None:
        """What devices say in it is lost, and so is what was not written. One whose message would be lost in
        the second gap since it was heard speaks when it is connected again: it would be reported (decision
        39)."""
        earlier = max((end for _, end in self.gaps), default=-math.inf)
        self.gaps.append((began - UNWRITTEN, ended))
        for pk, at in self.next.items():
            loses = at < ended or self.spoke[pk] != self.written[pk]
            if loses and self.written[pk] < earlier and not self.silent(pk):
                self.next[pk] = ended + self.rng.uniform(0, 60)
            while self.next[pk] < ended and not self.silent(pk):
                self.next[pk] = self._after(pk, self.next[pk])
            if at < ended and self.periods[pk] < 60 and not self.silent(pk):
                self.next[pk] = ended + self.rng.uniform(0, 60)
        self.spoke.update(self.written)

    def deadline(self, pk: int) -> float:
        """When one that has stopped is to be reported."""
        heard = self.spoke[pk]
        gaps = [(began, ended) for began, ended in self.gaps if ended > heard]
        begin = max(heard, gaps[0][1] + RETURN) if gaps else heard
        return begin + 1.5 * self.periods[pk] + sum(ended - began + RETURN for began, ended in gaps[1:])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_exactly_those_that_stop_are_reported_each_once_and_in_time(
    connection: psycopg.Connection, account: Account
) -> None:
    channel = account.channel()
    Device.objects.bulk_create(
        Device(user=account.user, device_id=f"p{period}-{number}", enabled=True, mapped_channel=channel)
        for period in PERIODS
        for number in range(125)
    )
    names = dict(Device.objects.values_list("pk", "device_id"))
    fleet = Fleet({pk: int(name[1:].split("-")[0]) for pk, name in names.items()})
    for period in PERIODS:
        quiet(account, period, period // 2, devices=f"p{period}-*")
    listens()
    listened(86_400)
    Activity.objects.bulk_create(
        Activity(device_id=pk, last_seen="2000-01-01T00:00:00Z", messages=1, door=Door.MQTT) for pk in names
    )
    reported: dict[int, float] = {}
    recovered: dict[int, float] = {}
    counts: Counter[int] = Counter()
    clock, looks, outages = 0.0, 0, dict(OUTAGES)
    moved, began = 0.0, time.monotonic()  # what the test itself takes passes, too

    def write(heard: list[tuple[int, float]]) -> None:
        with django_connection.cursor() as cursor:
            cursor.execute(
                "UPDATE devices_listening SET until = clock_timestamp() - make_interval(secs => %s)",
                [UNWRITTEN],
            )
            cursor.execute(
                """UPDATE devices_activity a SET last_seen = clock_timestamp() - make_interval(secs => h.ago)
                FROM unnest(%s::bigint[], %s::float8[]) AS h (device, ago) WHERE a.device_id = h.device""",
                [[pk for pk, _ in heard], [clock - at for _, at in heard]],
            )

    def look() -> None:
        silence.look(connection)
        for pk, what in Observation.objects.order_by("pk").values_list("device", "what"):
            counts[what] += 1
            if what == Observation.What.MATCHED:
                assert fleet.silent(pk), f"{names[pk]} at {clock}"
                assert -0.5 < clock - fleet.deadline(pk) <= IN_TIME, f"{names[pk]} at {clock}"
                reported[pk] = clock
                fleet.returns[pk] = fleet.next[pk] = clock + 100
            else:
                assert clock - fleet.spoke[pk] <= IN_TIME, names[pk]
                recovered[pk] = clock
        Observation.objects.all().delete()

    write(list(fleet.spoke.items()))
    look()
    while clock < END:
        if outages and clock >= min(outages):
            away = outages.pop(min(outages))
            pass_(away)
            moved += away
            fleet.outage(clock, moved + time.monotonic() - began)
            look()  # the worker is the first one there
            listens()
        else:
            moments = [min(outages, default=END), clock + (10 if clock < 3600 else 1800)]
            for pk in fleet.stops:
                if fleet.silent(pk):
                    moments += [fleet.deadline(pk) - 1, fleet.deadline(pk) + IN_TIME - 0.5]
                elif pk in reported and pk not in recovered:
                    moments += [fleet.returns[pk] + IN_TIME - 1.5]
            step = min(moment for moment in moments if moment > clock + 0.2) - clock
            listened(step)
            moved += step
        clock = moved + time.monotonic() - began
        write(fleet.speak(clock))
        look()
        looks += 1
    print(f"{looks} looks at {len(names)} devices; {len(reported)} were reported")  # noqa: T201
    assert set(reported) == set(recovered) == set(fleet.stops)
    assert counts == {Observation.What.MATCHED: 10, Observation.What.CLEARED: 10}
    assert not silent_ones()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_hundred_thousand_devices(connection: psycopg.Connection, account: Account) -> None:
    """Each of them speaks once a minute, so that each second 1,700 are heard and 1,100 due. A hundred have
    stopped. Time is not moved here."""
    count, period, grace = 100_000, 60, 30
    listens()
    listened(86_400)
    with django_connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO devices_device (user_id, device_id, enabled, created_at)
            SELECT %s, 'd' || n, true, now() FROM generate_series(1, %s) AS n""",
            [account.user.pk, count],
        )
        cursor.execute(
            """INSERT INTO devices_activity (device_id, last_seen, messages, door)
            SELECT id, now() - make_interval(secs => CASE WHEN id %% 1000 = 1 THEN 80
                ELSE %s - id %% %s END), 1, 1 FROM devices_device""",
            [period, period],
        )
        cursor.execute("ANALYZE")

    def seconds() -> float:
        listens()
        began = time.monotonic()
        silence.look(connection)
        return time.monotonic() - began

    quiet(account, period, grace, devices="d*")
    first: list[float] = []
    steady: list[float] = []
    for second in range(30):
        began = time.monotonic()
        with django_connection.cursor() as cursor:
            cursor.execute(
                """UPDATE devices_activity SET last_seen = clock_timestamp()
                WHERE device_id %% %s = %s AND device_id %% 1000 <> 1""",
                [period, second],
            )
        (steady if second >= 10 else first).append(seconds())
        time.sleep(max(0.0, 1 - (time.monotonic() - began)))
    assert len(silent_ones()) == count // 1000
    Activity.objects.exclude(silent_since=None).update(last_seen=timezone.now())
    found = [seconds() for _ in range(2)]
    assert not silent_ones()
    nothing_due = min(seconds() for _ in range(5))
    steady.sort()
    print(  # noqa: T201
        f"\nlooks at 100,000 devices: of a new event {[round(each, 2) for each in first[:8]]} s; then each"
        f" second: median {steady[10] * 1000:.0f} ms, longest {steady[-1] * 1000:.0f} ms; 100 heard again:"
        f" {found[0] * 1000:.0f} ms; quietest: {nothing_due * 1000:.1f} ms"
    )
    assert steady[10] < 0.5
