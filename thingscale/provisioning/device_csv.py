"""Devices as CSV: what the rows of an import mean, and the rows of an export."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from thingscale.accounts.tenancy import in_pages
from thingscale.devices.fields import DESCRIPTION, FACTS, TEXTS
from thingscale.devices.models import Device
from thingscale.lib.csv_file import CsvRow
from thingscale.lib.names import DEVICE_ID_RULE, bad_device_id
from thingscale.provisioning import named_channels
from thingscale.provisioning.named_channels import ChannelName, NotNamed

KEY = "device_id"
PAGE = 1000  # devices
COLUMNS = (KEY, DESCRIPTION.name, "enabled", "channel", *(fact.name for fact in FACTS))
# Among them is what spreadsheets in other languages write for TRUE and FALSE.
_TRUE = (
    "true|yes|1|wahr|ja|vrai|oui|verdadero|vero|verdadeiro|waar|prawda|sant|sand|sann|tosi|pravda|igaz|doğru"
    "|истина"
)
_FALSE = (
    "false|no|0|falsch|nein|faux|non|falso|onwaar|fałsz|falskt|falsk|usann|epätosi|nepravda|hamis|yanliş|ложь"
)
_ENABLED = dict.fromkeys(_TRUE.split("|"), True) | dict.fromkeys(_FALSE.split("|"), False)
_LONG_NUMBER = re.compile(r"-?[0-9]([.,][0-9]+)?[eE]\+[0-9]+")  # as spreadsheets shorten it


class Fault(NamedTuple):
    line: int
    field: str
    message: str


class Report(NamedTuple):
    """Of an import; with errors nothing is written."""

    created: int
    updated: int
    errors: list[Fault]
    unmapped: int = 0  # of those updated: they lose their channel
    channels: Sequence[str] = ()  # that are made, as people name them
    written: bool = False


class Wanted(NamedTuple):
    line: int
    device_id: str
    changes: dict[str, Any]  # by the names of the model
    channel: ChannelName | None = None  # if the row names one


def check(rows: Sequence[CsvRow], existing: Collection[str] = ()) -> tuple[list[Wanted], list[Fault]]:
    """What the rows without a fault want, and the faults of the others. `existing`: the account's device ids
    among those of the rows; they may be older than the rules for names."""
    wanted, faults = [], []
    lines: dict[str, int] = {}
    for line, cells in rows:
        device_id = cells[KEY]
        found = [Fault(line, *fault) for fault in _faults(cells, lines, existing)]
        faults += found
        lines.setdefault(device_id, line)
        if found:
            continue
        changes: dict[str, Any] = {field.name: cells[field.name] for field in TEXTS if field.name in cells}
        if enabled := _plain(cells, "enabled"):  # without a value, it stays as it is
            changes["enabled"] = _ENABLED[enabled]
        channel = cells.get("channel", "").strip()
        if "channel" in cells and not channel:
            changes["mapped_channel_id"] = None
        wanted.append(Wanted(line, device_id, changes, named_channels.parse(channel) if channel else None))
    return wanted, faults


def _faults(
    cells: Mapping[str, str], lines: Mapping[str, int], existing: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Field and message. `lines` has the device ids of the rows before."""
    device_id = cells[KEY]
    if _LONG_NUMBER.fullmatch(device_id.strip()):
        yield (
            KEY,
            f"A spreadsheet shortened a long number to {device_id.strip()[:32]}: format the column as text,"
            " and enter the id again.",
        )
    elif bad_device_id(device_id) and device_id not in existing:
        yield KEY, _(DEVICE_ID_RULE)
    elif device_id in lines:
        yield KEY, _("This device is in line %(line)s already.") % {"line": lines[device_id]}
    for field in TEXTS:
        text = cells.get(field.name, "")
        if len(text) > field.max_length:
            rule = _("This has %(length)s characters, of at most %(most)s.")
            yield field.name, rule % {"length": len(text), "most": field.max_length}
        if "\0" in text:
            yield field.name, _("This has a NUL character.")
    enabled = _plain(cells, "enabled")
    if enabled and enabled not in _ENABLED:
        yield "enabled", _("Write true or false.")
    if channel := cells.get("channel", "").strip():
        try:
            named_channels.parse(channel)
        except NotNamed as fault:
            yield "channel", str(fault)


def _plain(cells: Mapping[str, str], name: str) -> str:
    return cells.get(name, "").strip().lower()


def export_rows(devices: QuerySet[Device]) -> Iterator[tuple[str, ...]]:
    """Cells as in COLUMNS, by device id; what import_devices() takes."""
    ordered = devices.select_related("mapped_channel").order_by(KEY)
    for device in chain.from_iterable(in_pages(ordered, KEY, PAGE)):
        channel = device.mapped_channel
        special = {
            "enabled": str(device.enabled).lower(),
            "channel": str(channel.number) if channel else "",
        }
        yield tuple(special[name] if name in special else getattr(device, name) for name in COLUMNS)
