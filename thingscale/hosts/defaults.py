"""The events that every server should have, made with one press. They are events as others are: whoever has
changed one finds it as it was left, and pressing again makes only what is missing.

An event watches a path in the values of a channel, whatever their tags. So it can be made of what a host
sends only if nothing else of it has a number at the same path: of our agent always, of others it depends.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from django.db.models import Q
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from thingscale.accounts.limits import Kind
from thingscale.accounts.models import Account
from thingscale.events.actions import create_events
from thingscale.events.models import Event
from thingscale.hosts import look, metrics
from thingscale.hosts.look import State
from thingscale.hosts.metrics import Metric, Sender
from thingscale.hosts.models import Host
from thingscale.lib.names import matches

BATCH = 100  # hosts that are read at once, with all of their tags
EVERY = "*"


class Name(StrEnum):
    DISK = "disk"
    DISK_TREND = "disk_trend"
    CPU = "cpu"
    SWAP = "swap"
    SILENCE = "silence"
    UNIT = "unit"
    CERTIFICATE = "certificate"


class Default(NamedTuple):
    """`source` is where our agent has it; `metric` where others may have it."""

    title: str | Promise
    fields: Mapping[str, Any]
    source: str = ""
    metric: tuple[Metric, str] | None = None


_ONCE = {"repeat": Event.Repeat.CROSSING}
DAY = 86_400
DEFAULTS = {
    Name.DISK: Default(
        _("A disk is over 90 % full"),
        _ONCE | {"operator": ">", "threshold": "90", "clear": "85", "hold": 60, "severity": "critical"},
        "disk:fullest",
        (Metric.DISK, ""),
    ),
    Name.DISK_TREND: Default(
        _("A disk will be full in 2 days"),
        _ONCE
        | {
            "kind": Event.Kind.TREND,
            **{"operator": ">=", "threshold": "100", "window": 6 * 3600, "period": 2 * DAY, "hold": 600},
        },
        "disk:fullest",
        (Metric.DISK, ""),
    ),
    Name.CPU: Default(
        _("CPU idle is under 5 % for 5 minutes"),
        _ONCE | {"operator": "<", "threshold": "5", "hold": 300},
        "cpu:idle",
        (Metric.CPU, "idle"),
    ),
    Name.SWAP: Default(
        _("Swap is in use"),
        _ONCE | {"operator": ">", "threshold": "10", "clear": "5", "hold": 300},
        "swap:percent",
        (Metric.SWAP, ""),
    ),
    Name.SILENCE: Default(
        _("A host is silent"),
        {"kind": Event.Kind.SILENCE, "period": 60, "grace": 240, "severity": "critical"},
    ),
    Name.UNIT: Default(
        _("A systemd unit has failed"),
        _ONCE | {"operator": ">", "threshold": "0", "hold": 60},
        "units:failed",
    ),
    Name.CERTIFICATE: Default(
        _("A certificate ends within 14 days"),
        _ONCE | {"operator": "<", "threshold": "14", "clear": "15"},
        "checks:certificate_days",
    ),
}


class Made(NamedTuple):
    made: int
    there: int  # that were there already
    left_out: int  # for which the account has no room


def sources(name: Name, state: State) -> list[str]:
    """Where a host has what this event watches; none, if it has not, or not apart from other numbers."""
    default = DEFAULTS[name]
    if state.sender == Sender.AGENT:
        groups = state.sample if isinstance(state.sample, dict) else {}
        return [default.source] if default.source.partition(":")[0] in groups else []
    if default.metric is None:
        return []
    metric, of = default.metric
    places: dict[str, list[str]] = {}  # tags, by path
    wanted: dict[str, int] = {}
    for tag, _at, value in state.newest:
        for path, _number in metrics.leaves(value):
            places.setdefault(path, []).append(tag)
            what = metrics.known(tag, path)
            if what and what.metric == metric and (not of or what.of == of) and not what.grows:
                wanted[path] = wanted.get(path, 0) + 1
    return [path for path, count in wanted.items() if len(places[path]) == count][:10]


def missing(account: Account, hosts: Iterable[Host]) -> dict[Name, list[dict[str, Any]]]:
    """By event, the fields of what there is not yet for these hosts."""
    found: dict[Name, list[dict[str, Any]]] = {name: [] for name in Name}
    watched, names, patterns = _watched(account)
    for host, state in _with_states(hosts):
        channel = host.device.mapped_channel_id
        for name in Name:
            if name == Name.SILENCE:
                device_id = host.device.device_id
                if device_id in names or any(matches(device_id, pattern) for pattern in patterns):
                    continue
                if channel in watched.get((Event.Kind.SILENCE, ""), set()):
                    continue
                if account.kind == Kind.SERVWATCH:
                    patterns.append(EVERY)
                    found[name].append({"devices": EVERY} | _fields(name, None))
                else:
                    found[name].append({"devices": device_id} | _fields(name, host))
                continue
            for source in sources(name, state):
                kind = DEFAULTS[name].fields.get("kind", Event.Kind.THRESHOLD)
                if channel is not None and channel not in watched.get((kind, source), set()):
                    found[name].append({"mapped_channel_id": channel, "source": source} | _fields(name, host))
    return found


def offered(hosts: Iterable[Host]) -> dict[Name, bool]:
    """Whether any of these hosts sends what this event watches."""
    found = dict.fromkeys(Name, False)
    for _host, state in _with_states(hosts):
        for name in Name:
            found[name] = found[name] or name == Name.SILENCE or bool(sources(name, state))
        if all(found.values()):
            break
    return found


def make(account: Account, hosts: Sequence[Host], names: Iterable[Name]) -> Made:
    """Those of these names that are missing, the same one for all hosts before the next."""
    chosen = [name for name in Name if name in set(names)]
    found = missing(account, hosts)
    wanted = [fields for name in chosen for fields in found[name]]
    made = create_events(account, wanted)
    there = len(hosts) * len(chosen) - len(wanted)
    return Made(len(made), max(0, there), len(wanted) - len(made))


def _fields(name: Name, host: Host | None) -> dict[str, Any]:
    title = str(DEFAULTS[name].title)
    return dict(DEFAULTS[name].fields) | {
        "description": f"{host.device.device_id}: {title[:1].lower()}{title[1:]}" if host else title
    }


def _watched(account: Account) -> tuple[dict[tuple[str, str], set[int | None]], set[str], list[str]]:
    """The channels of events, by kind and source; and for which devices silence is watched, by their names
    and by patterns."""
    channels: dict[tuple[str, str], set[int | None]] = {}
    names: set[str] = set()
    patterns: list[str] = []
    mine = Event.objects.for_account(account).filter(~Q(kind=Event.Kind.CHANGE))
    rows: Iterable[Any] = mine.values_list("kind", "source", "mapped_channel", "devices")
    for kind, source, channel, devices in rows:
        if kind != Event.Kind.SILENCE:
            channels.setdefault((kind, source), set()).add(channel)
        elif channel is not None:
            channels.setdefault((kind, ""), set()).add(channel)
        elif "*" in devices or "?" in devices:
            patterns.append(devices)
        else:
            names.add(devices)
    return channels, names, patterns


def _with_states(hosts: Iterable[Host]) -> Iterator[tuple[Host, State]]:
    waiting: dict[int, Host] = {}
    for host in hosts:
        waiting[host.pk] = host
        if len(waiting) == BATCH:
            yield from _read(waiting)
            waiting = {}
    yield from _read(waiting)


def _read(hosts: dict[int, Host]) -> Iterator[tuple[Host, State]]:
    found = look.states({pk: host.counters for pk, host in hosts.items()}, tags="")
    for pk, host in hosts.items():
        if pk in found:
            yield host, found[pk]
