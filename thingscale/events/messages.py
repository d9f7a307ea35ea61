"""What a notification says: the contract's object, of which each transport makes its text. Pure."""

import json
import math
import re
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from thingscale.events.states import FLAP_CHANGES, FLAP_SECONDS, Message, Notice, State
from thingscale.lib.clock import without_colon


class EventFields(Protocol):
    """Of an event, as its model or one of our own queries has them."""

    number: int
    description: str
    kind: str
    source: str
    operator: str
    threshold: str
    window: int
    period: int
    grace: int
    no_data_after: int
    severity: str


class Subject(NamedTuple):
    """What the event is about."""

    channel: int | None  # the contract's number
    channel_name: str
    device_id: str
    tag: str | None
    zone: ZoneInfo  # of the account


def body(event: EventFields, subject: Subject, message: Message, state: State) -> dict[str, Any]:
    """Without `delivery_id` and `incident`, which differ from receiver to receiver."""
    said = {
        "event_id": event.number,
        "description": event.description,
        "mapped_ch": subject.channel,
        "channel_name": subject.channel_name,
        "source": event.source,
        "status": status(event, subject.device_id, message.notice, state, message.of.value),
        "current": current(message.of.value),
        "threshold": event.threshold,
        "tag": subject.tag,
        "device_id": subject.device_id or None,
        "at": without_colon(message.of.at, subject.zone),
        "state": Notice.FLAPPING if message.notice == Notice.FLAPPING else state,
        "severity": event.severity,
    }
    if message.left_out:
        said["left_out"] = message.left_out
    return said


def left_out(said: dict[str, Any], count: int) -> dict[str, Any]:
    """Says that so many matches are left out. `said`: of the newest one."""
    return said | {
        "status": "Matches are left out: the account has more of them than can be followed.",
        "current": None,
        "state": "left out",
        "incident": None,
        "left_out": count,
    }


def current(value: str) -> Any:
    """`value`: what was compared, as JSON text. What is none is text, and so is what PostgreSQL's JSON does
    not have: NaN and infinities, texts with a NUL or half of a surrogate pair."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    if isinstance(found, list | dict) or (isinstance(found, float) and not math.isfinite(found)):
        return value
    if isinstance(found, str) and re.search("[\0\ud800-\udfff]", found):
        return value
    return found


def shown(value: str) -> str:
    """The same for people: a text without its quotes."""
    found = current(value)
    return found if isinstance(found, str) else value


def status(event: EventFields, device_id: str, notice: Notice, state: State, value: str) -> str:
    source, now = event.source, f"Current:{shown(value)}"
    over = notice == Notice.RESOLVED
    if notice == Notice.FLAPPING:
        often = f"more than {FLAP_CHANGES} times within {FLAP_SECONDS // 60} minutes"
        return f"{source or device_id} changed {often}. Nothing more is sent until it is steady."
    if over and state == State.NO_DATA:
        return f"{source} was not received for {event.no_data_after} s. Last:{shown(value)}"
    match event.kind:
        case "range":
            how = "is within the range again" if over else "was outside of the range"
            return f"{source} {how}. {now} Range:{event.threshold}"
        case "change" if not event.threshold:
            return f"{source} {'does not change any more' if over else 'changed'}. {now}"
        case "change":
            how = (
                "does not change by more than the threshold any more"
                if over
                else "changed by more than the threshold"
            )
            return f"{source} {how}. {now} Threshold:{event.threshold}"
        case "rate":
            how = (
                "does not move by more than the threshold any more"
                if over
                else "moved by more than the threshold"
            )
            return f"{source} {how}. {now} Threshold:{event.threshold} in {event.window} s"
        case "trend":
            how = "does not go there any more" if over else f"gets there within {event.period} s, as it goes"
            return f"{source} {how}. {now} Threshold:{event.operator} {event.threshold}"
        case "silence":
            silent = f"was not heard for {event.period + event.grace} s"
            return f"{device_id} {'is heard again' if over else silent}."
        case _ if over:
            limit = f"Threshold:{event.operator} {event.threshold}"
            return f"{source} is not consistent with the threshold any more. {now} {limit}"
    return f"{source} was consistent with the threshold. {now} {event.operator} Threshold:{event.threshold}"
