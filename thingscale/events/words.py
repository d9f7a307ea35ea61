"""The text of notifications for people, from the contract's object (messages.py). Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from thingscale.events.models import Delivery
from thingscale.lib.plurals import counted

LISTED = 50  # in one message
MAX_VALUE = 500  # characters
ALERTS = "/alerts/"  # of the console

Body = Mapping[str, Any]


def title(body: Body, about: str) -> str:
    if about == Delivery.About.BRAKE:
        return "ThingScale: notifications are left out"
    named = body.get("description") or f"Event {body['event_id']}"
    others = f" and {counted(_others(body), 'other')}" if _others(body) else ""
    device = f" ({body['device_id']}{others})" if body.get("device_id") else others
    before = {Delivery.About.RESOLVED: "Over: ", Delivery.About.TEST: "Test: "}.get(Delivery.About(about), "")
    return f"{before}{named}{device}"


def text(body: Body, about: str, public_url: str) -> str:
    lines = [_short(body["status"])]
    if about == Delivery.About.BRAKE:
        if body.get("left_out"):
            lines.append(f"So far it is {counted(body['left_out'], 'match,matches')}.")
        return "\n".join([*lines, *_link(public_url)]) + "\n"
    if about == Delivery.About.TEST:
        lines.insert(0, "This is a test, which you asked for in the console.")
    lines += ["", *_facts(body)]
    if body.get("left_out"):
        lines += ["", f"Nobody was told of {counted(body['left_out'], 'other one')} before it."]
    if _others(body):
        listed = body["also"][:LISTED]
        lines += ["", "At the same time:"]
        lines += [
            f"{_moment(each)}  {each.get('device_id') or ''}: {_short(each['status'])}" for each in listed
        ]
        if _others(body) > len(listed):
            lines.append(f"And {_others(body) - len(listed):,} more.")
    return "\n".join([*lines, *_link(public_url)]) + "\n"


def digest(bodies: Sequence[tuple[Body, str]], count: int, public_url: str) -> tuple[str, str]:
    """Title and text of a message in the place of `count`; `bodies` are the first ones, each with what it is
    about."""
    lines = [
        f"{counted(count, 'notification')} came within a minute or so, and are gathered here.",
        "",
    ]
    lines += [
        f"{_moment(body)}  {title(body, about)}: {_short(body['status'])}" for body, about in bodies[:LISTED]
    ]
    if count > len(lines) - 2:
        lines += ["", f"And {count - (len(lines) - 2):,} more."]
    return f"ThingScale: {counted(count, 'notification')}", "\n".join([*lines, *_link(public_url)]) + "\n"


def _facts(body: Body) -> list[str]:
    number = (
        f"{body['event_id']}: {body['description']}" if body.get("description") else str(body["event_id"])
    )
    channel = f"{body['mapped_ch']} {body.get('channel_name') or ''}" if body.get("mapped_ch") else ""
    facts = {
        "Event": number,
        "Severity": body.get("severity"),
        "Channel": channel,
        "Device": body.get("device_id"),
        "Tag": body.get("tag"),
        "Source": body.get("source"),
        "Value": None if body.get("current") is None else _short(str(body["current"])),
        "Threshold": body.get("threshold"),
        "Time": _moment(body),
    }
    return [f"{name + ':':<11}{_short(str(fact))}" for name, fact in facts.items() if fact not in {None, ""}]


def _others(body: Body) -> int:
    """Of the same event, that fired or ended within the same seconds."""
    return len(body.get("also", ())) + int(body.get("more", 0))


def _moment(body: Body) -> str:
    return str(body.get("at") or "").replace("T", " ")


def _short(value: str) -> str:
    flat = " ".join(value.split())
    return flat if len(flat) <= MAX_VALUE else f"{flat[:MAX_VALUE]}\u2026"


def _link(public_url: str) -> list[str]:
    return ["", f"{public_url}{ALERTS}"] if public_url else []
