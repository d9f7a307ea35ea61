"""Channels as people name them in tables and forms: `7`, `Roof`, `7 · Roof`, and `own`, which is each
device's own. One that is not there yet can be made.

A device that is alone in its channel has that as its own. Else its own is a channel that is called like it
and has no device, as after the device was deleted and came back, or else a new one of that name.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from django.db.models import Count, Q
from django.utils.translation import gettext as _

from thingscale.accounts.models import Account
from thingscale.devices.models import Device
from thingscale.lib.ids import ChannelPk
from thingscale.streams.actions.channels import create_channels
from thingscale.streams.models import Channel

MAX_NAME = 200
_NUMBER = re.compile(r"(\d{1,12})\s*(?:·(.*))?", re.DOTALL | re.ASCII)
_LIKE_A_NUMBER = re.compile(r"[-+.,\d\s]+([eE][-+]?\d+)?", re.ASCII)
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class ChannelName(NamedTuple):
    """With neither: each device's own."""

    number: int | None = None
    name: str = ""


OWN = ChannelName()


class NotNamed(Exception):
    """The text says what to do, in one sentence."""


def parse(text: str) -> ChannelName:
    """Raises NotNamed for what can't name a channel."""
    text = text.strip()
    if text.lower() == "own":
        return OWN
    if match := _NUMBER.fullmatch(text):
        number, name = int(match[1]), (match[2] or "").strip()
    else:
        number, name = None, text
    if (number or 0) > Channel.MAX_NUMBER or (number is None and _LIKE_A_NUMBER.fullmatch(name)):
        raise NotNamed(
            _("A channel is a whole number from 0 to %(max_number)s.") % {"max_number": Channel.MAX_NUMBER}
        )
    if len(name) > MAX_NAME or _UNUSABLE.search(name):
        raise NotNamed(
            _("A channel's name has at most %(max_name)s characters, and no control characters.")
            % {"max_name": MAX_NAME}
        )
    return ChannelName(number, name)


@dataclass(eq=False)
class NewChannel:
    number: int | None  # None: one that is free
    name: str

    @property
    def title(self) -> str:
        return " · ".join(str(part) for part in (self.number, self.name) if part not in {None, ""})


@dataclass
class Plan:
    """Which channel each device would get, and which of them have to be made."""

    channels: dict[str, ChannelPk | NewChannel] = field(default_factory=dict)  # by device id
    new: list[NewChannel] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)  # by device id: a sentence

    @property
    def titles(self) -> list[str]:
        return [channel.title for channel in self.new]


def plan(account: Account, wanted: Mapping[str, ChannelName], present: Mapping[str, Device]) -> Plan:
    """`wanted` by device id; `present`: those of these devices that there are. Locks nothing: whoever makes
    the channels has locked the account before."""
    numbers = {name.number for name in wanted.values() if name.number is not None}
    names = {name.name for name in wanted.values() if name.number is None}
    own = [device_id for device_id, name in wanted.items() if name == OWN]
    mapped = {present[device_id].mapped_channel_id for device_id in own if device_id in present} - {None}
    asked = Q(number__in=numbers) | Q(name__in=[*(names - {""}), *own]) | Q(pk__in=mapped)
    found = Channel.objects.for_account(account).filter(asked).annotate(count=Count("devices"))
    rows = found.order_by("number").values_list("pk", "number", "name", "count")
    by_number: dict[int, ChannelPk | NewChannel] = {}
    by_name: dict[str, list[ChannelPk | NewChannel]] = defaultdict(list)
    empty: dict[str, ChannelPk] = {}  # by name
    alone: set[ChannelPk] = set()  # with one device
    for pk, number, name, count in rows:
        by_number[number] = ChannelPk(pk)
        by_name[name].append(ChannelPk(pk))
        if count == 0:
            empty.setdefault(name, ChannelPk(pk))
        if count == 1:
            alone.add(ChannelPk(pk))
    made = Plan()

    def new(number: int | None, name: str) -> NewChannel:
        made.new.append(NewChannel(number, name))
        return made.new[-1]

    # Numbers first, since a row may name the channel that another one makes.
    for device_id, wish in sorted(wanted.items(), key=lambda item: item[1].number is None):
        named = by_name[wish.name]
        current = present[device_id].mapped_channel_id if device_id in present else None
        if wish.number is not None:
            if wish.number not in by_number:
                by_number[wish.number] = new(wish.number, wish.name)
                named.append(by_number[wish.number])
            made.channels[device_id] = by_number[wish.number]
        elif wish != OWN:
            if len(named) > 1:
                rule = f"You have {len(named)} channels called {wish.name[:64]}: give the number."
                made.faults[device_id] = rule
                continue
            if not named:
                named.append(new(None, wish.name))
            made.channels[device_id] = named[0]
        elif current is not None and current in alone:
            made.channels[device_id] = ChannelPk(current)
        elif device_id in empty:
            made.channels[device_id] = empty.pop(device_id)
        else:
            made.channels[device_id] = new(None, device_id)
    return made


def make(account: Account, planned: Plan) -> dict[str, ChannelPk]:
    """Makes the new channels of a plan, all or none, and returns the channel of each device. The caller has
    locked the account before it planned. Raises ContractError as create_channels does."""
    created = create_channels(account, [(channel.number, channel.name) for channel in planned.new])
    keys = {id(new): channel.id for new, channel in zip(planned.new, created, strict=True)}
    return {
        device_id: keys[id(channel)] if isinstance(channel, NewChannel) else channel
        for device_id, channel in planned.channels.items()
    }
