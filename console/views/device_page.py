"""The page of a device: its state, its messages, and how it sends."""

import json
from typing import Any, NamedTuple

from django.db.models import Q, TextField
from django.db.models.functions import Cast
from django.http import HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string

from console import snippets
from console.request import UserRequest
from console.views.devices import SECTION, get_device, suggested
from thingscale.devices.models import Command, Device, MqttSession, RejectedMessage
from thingscale.devices.presence import connected, names
from thingscale.lib.excerpts import excerpt
from thingscale.lib.ids import ChannelPk
from thingscale.streams.models import Channel
from thingscale.streams.queries import newest_of_device

DATAPOINTS = 20
LOOK_AT = 500  # newest datapoints of the channel
CHARACTERS = 300  # of a value
REJECTED = 20
COMMANDS = 20
SESSIONS = 20
WAYS = {"curl", "mosquitto"}


class Told(NamedTuple):
    """Something a device sent, as a table shows it."""

    at: Any
    tag: str | None
    value: str
    cut: bool


def detail(request: UserRequest, pk: int) -> HttpResponse:
    device = get_device(request, pk)
    context = {
        "device": device,
        "datapoints": _datapoints(device),
        "look_at": LOOK_AT,
        "held": _held(device),
        "rejected": [_rejected(message) for message in _refused(request, device)],
        "commands": [_command(command) for command in device.commands.order_by("-pk")[:COMMANDS]],
        "sessions": _sessions(request, device),
        "ways": _ways(request, device),
        "stores": device.enabled and device.mapped_channel_id is not None,
        "state": _state(device),
    }
    if device.mapped_channel_id is None:
        channels = Channel.objects.for_user(request.user)
        context |= {"channels": suggested(request), "number": channels.free_number()}
    return render(request, "console/device/detail.html", SECTION | context)


def _datapoints(device: Device) -> list[Told]:
    if device.mapped_channel_id is None:
        return []
    found = newest_of_device(ChannelPk(device.mapped_channel_id), device.id, DATAPOINTS, LOOK_AT, CHARACTERS)
    return [Told(point.at, point.tag, point.value, point.length > CHARACTERS) for point in found]


def _held(device: Device) -> list[Told]:
    """Newest first; the values as PostgreSQL has them, so that a number keeps every digit."""
    texts = device.held.annotate(text=Cast("value", TextField())).order_by("-pk")
    found = texts.values_list("received_at", "tag", "text")
    return [Told(at, tag, text[:CHARACTERS], len(text) > CHARACTERS) for at, tag, text in found]


def _refused(request: UserRequest, device: Device) -> Any:
    found = RejectedMessage.objects.for_user(request.user).filter(device_id=device.device_id)
    return found.order_by("-pk")[:REJECTED]


def _rejected(message: RejectedMessage) -> dict[str, Any]:
    return {"message": message, "excerpt": excerpt(bytes(message.payload))}


def _command(command: Command) -> dict[str, Any]:
    payload = bytes(command.payload)
    shown = excerpt(payload[:CHARACTERS])
    return {"command": command, "excerpt": shown, "cut": len(payload) > CHARACTERS}


def _sessions(request: UserRequest, device: Device) -> list[MqttSession]:
    """By the form recommended for client ids: `DEVICE_something`. To operators with the gateway's name."""
    own = Q(client_id=device.device_id) | Q(client_id__startswith=f"{device.device_id}_")
    found = list(connected(request.user).filter(own)[:SESSIONS])
    if request.user.is_staff and found:
        of_gateways = names()
        for session in found:
            session.gateway_name = of_gateways.get(session.gateway, "")
    return found


def _state(device: Device) -> list[tuple[str, str]]:
    """Names and JSON values, text without its quotes."""
    state = device.state if isinstance(device.state, dict) else {}
    return [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in state.items()
    ]


def _ways(request: UserRequest, device: Device) -> list[dict[str, str]]:
    """Commands that send something as this device, with the token and with it masked."""
    full = snippets.context(request, request.user, device.device_id)
    masked = snippets.masked(full)
    return [
        {
            "name": "MQTT" if way.mqtt else "HTTP",
            "masked": render_to_string(way.template, masked),
            "full": render_to_string(way.template, full),
        }
        for way in snippets.offered(snippets.broker(request))
        if way.key in WAYS
    ]
