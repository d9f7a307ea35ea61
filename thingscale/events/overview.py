"""How it stands with an account's events."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from django.db import connection
from django.db.models import Case, Count, FloatField, QuerySet, Value, When
from django.db.models.functions import Extract

from thingscale.accounts.models import Account, User
from thingscale.devices.models import Device
from thingscale.events import waiting
from thingscale.events.models import Condition, Event, Incident, MaintenanceWindow
from thingscale.events.noise import ActiveWindow, Quiet
from thingscale.streams.models import Tag

State = Condition.State
MUTED = "muted"  # it fires, and nobody is notified
MOST_COUNTED = 1000
_A_STEP = 1e11  # seconds: more than lies between any two times


def count_firing(account: Account) -> int:
    """How much fires now, counted up to MOST_COUNTED: each page of the console asks."""
    return Incident.objects.for_account(account).filter(ended_at=None)[:MOST_COUNTED].count()


def too_much_waits(account: Account) -> bool:
    """So that not all that matches is kept: no worker follows it."""
    return waiting.is_full(connection, account.pk)


def newest_firing(account: Account, most: int) -> list[Incident]:
    """The severest first, and of these the newest."""
    severity = Case(
        When(severity=Event.Severity.CRITICAL, then=Value(0)),
        When(severity=Event.Severity.WARNING, then=Value(1)),
        default=Value(2),
    )
    found = Incident.objects.for_account(account).filter(ended_at=None).select_related("event")
    return list(found.order_by(severity, "-started_at")[:most])


def worst_firing(account: Account, noun: Literal["device", "channel"], keys: Iterable[int]) -> dict[int, str]:
    """The severity of what fires for each of these devices or channels (primary keys), if anything does."""
    found = Incident.objects.for_account(account).filter(ended_at=None, **{f"{noun}__in": list(keys)})
    worst: dict[int, str] = {}
    for key, severity in found.values_list(noun, "severity").distinct():
        worst[key] = max(worst.get(key, severity), severity, key=Event.Severity.values.index)
    return worst


def firing_of(account: Account, noun: Literal["device", "channel"], key: int) -> tuple[int, str | None]:
    """As count_firing(); and the worst severity of what fires for this device or channel."""
    own = Case(When(**{noun: key}, then=Value(1)), default=Value(0))
    rows = list(
        Incident.objects.for_account(account)
        .filter(ended_at=None)
        .annotate(own=own)
        .order_by("-own")
        .values_list("own", "severity")[:MOST_COUNTED]
    )
    severities = [severity for is_own, severity in rows if is_own]
    return len(rows), max(severities, key=Event.Severity.values.index, default=None)


def conditions(account: Account, *states: str) -> QuerySet[Condition]:
    """Those in one of the states, or in all, with `urgency`: what fires has more of it than what is pending,
    and of those in the same state the severest and newest have most."""
    of_account = Condition.objects.filter(event__user=account.pk)
    if states:
        of_account = of_account.filter(state__in=states)
    state = _steps("state", [State.OK, State.NO_DATA, State.PENDING, State.FIRING], 10 * _A_STEP)
    severity = _steps("event__severity", Event.Severity.values, _A_STEP)
    urgency = state + severity + Extract("since", "epoch", output_field=FloatField())
    return of_account.select_related("event__mapped_channel", "incident").annotate(urgency=urgency)


def _steps(field: str, values: Sequence[str], height: float) -> Case:
    steps = [When(**{field: value}, then=Value(place * height)) for place, value in enumerate(values)]
    return Case(*steps, default=Value(0.0), output_field=FloatField())


class NamedCondition(NamedTuple):
    """With device and tag as they are called now; "" where there is none, or none any more."""

    condition: Condition
    device_id: str
    tag: str


def named(found: list[Condition]) -> list[NamedCondition]:
    devices = Device.objects.filter(pk__in={each.device for each in found if each.device})
    tags = Tag.objects.filter(pk__in={each.tag for each in found if each.tag})
    ids: dict[int, str] = dict(devices.values_list("pk", "device_id"))
    names: dict[int, str] = dict(tags.values_list("pk", "name"))
    return [NamedCondition(each, ids.get(each.device, ""), names.get(each.tag, "")) for each in found]


def states_of(events: list[Event]) -> dict[int, dict[str, int]]:
    """How many conditions of each event are in each state but ok, by the event's primary key."""
    counted: dict[int, dict[str, int]] = {event.pk: {} for event in events}
    rows: Any = Condition.objects.filter(event__in=events).exclude(state=State.OK)
    for pk, state, count in rows.values_list("event", "state").annotate(Count("pk")):
        counted[pk][state] = count
    return counted


def not_told(events: list[Event], states: dict[int, dict[str, int]], now: datetime) -> set[int]:
    """Of the events of an account, those that fire and of which nobody is told now: all of what fires is
    muted, under maintenance or in quiet hours, as the worker sees it. `states`: of states_of()."""
    firing = {event.pk: event for event in events if states[event.pk].get(State.FIRING)}
    if not firing:
        return set()
    account = User.objects.get(pk=events[0].user_id)
    windows = [
        ActiveWindow(*each)
        for each in MaintenanceWindow.objects.for_account(account)
        .filter(starts_at__lte=now, ends_at__gt=now)
        .values_list("devices", "ends_at")
    ]
    rows: Any = Condition.objects.filter(event__in=firing, state=State.FIRING).exclude(muted_until__gt=now)
    not_muted = list(rows.values_list("event", "device"))
    ids: dict[int, str] = {}
    if windows:
        devices = Device.objects.filter(pk__in={device for _, device in not_muted})
        ids = dict(devices.values_list("pk", "device_id"))
    told = set()
    for pk, device in not_muted:
        event = firing[pk]
        quiet = Quiet(event.muted_until, windows, event.quiet_hours, account.zone)
        if not quiet.hush(ids.get(device, ""), None, now):
            told.add(pk)
    return firing.keys() - told


def state_in_words(counted: dict[str, int], is_told: bool) -> str:
    """Of an event as a whole: that of its worst condition. `counted`: of states_of()."""
    worst = next(
        (state for state in (State.FIRING, State.PENDING, State.NO_DATA) if counted.get(state)), State.OK
    )
    return worst.value if is_told else MUTED
