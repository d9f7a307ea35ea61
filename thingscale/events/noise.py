"""What keeps the receivers of an event from being told: a mute, a maintenance window, quiet hours. Pure.

`min_interval` and flapping are in states.py, since they depend on what was told before.
"""

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from thingscale.events.states import Hush
from thingscale.lib.clock import resolve_local
from thingscale.lib.names import matches


class ActiveWindow(NamedTuple):
    """A maintenance window that has begun."""

    devices: str  # * and ?
    ends_at: datetime


class Quiet(NamedTuple):
    """When nobody is to be told of an event."""

    muted_until: datetime | None
    windows: Sequence[ActiveWindow]  # of its account
    hours: str
    zone: ZoneInfo

    def hush(self, device_id: str, muted_until: datetime | None, now: datetime) -> Hush | None:
        """What ends last. `muted_until`: of the condition."""
        mutes = [until for until in (self.muted_until, muted_until) if until and until > now]
        found = [Hush(until, f"Muted until {self._shown(until)}.") for until in mutes]
        found += [
            Hush(window.ends_at, f"Maintenance of {window.devices} until {self._shown(window.ends_at)}.")
            for window in self.windows
            if window.ends_at > now and matches(device_id, window.devices)
        ]
        if until := quiet_until(self.hours, self.zone, now):
            found.append(Hush(until, f"Quiet hours until {self._shown(until)}."))
        return max(found, default=None)

    def _shown(self, moment: datetime) -> str:
        return moment.astimezone(self.zone).strftime("%Y-%m-%d %H:%M")


def quiet_until(hours: str, zone: ZoneInfo, now: datetime) -> datetime | None:
    """The end of the quiet hours (22:00-06:00 in the zone) that it is in now."""
    if not hours:
        return None
    start, end = (time.fromisoformat(written) for written in hours.split("-"))
    local = now.astimezone(zone).replace(tzinfo=None)
    clock = local.time()
    inside = start <= clock < end if start < end else clock >= start or clock < end
    if not inside or start == end:
        return None
    day = local.date() if clock < end else local.date() + timedelta(days=1)
    until = resolve_local(datetime.combine(day, end), zone, fold=0)
    return until if until > now else None  # in the hour that a change of the clock repeats, it is over
