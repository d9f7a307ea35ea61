"""The page of a device: its state, its messages, and how it sends."""

import json
from typing import Any, NamedTuple

from django.db.models import Q, TextField
from django.db.models.functions import Cast
from django.http import HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string

from console import snippets
from console.request import ConsoleRequest
from console.views.devices import SECTION, get_device, suggested
from thingscale.devices.models import Command, Device, MqttSession, RejectedMessage
from thingscale.devices.presence import connected, names
from thingscale.events.overview import firing_of
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


class MessageLine(NamedTuple):
    """Something that a device sent, as a table shows it."""

    at: Any
    tag: str | None
    value: str
    cut: bool


def detail(request: ConsoleRequest, pk: int) -> HttpResponse:
    device = get_device(request, pk)
    rejected = RejectedMessage.objects.for_account(request.account).filter(device_id=device.device_id)
    count, firing = firing_of(request.account, "device", device.pk)
    state = device.state if isinstance(device.state, dict) else {}
    context = {
        "device": device,
        "firing": firing,
        "firing_count": count,
        "datapoints": [],
        "look_at": LOOK_AT,
        "held": _held(device),
        "rejected": [
            {"message": message, "excerpt": excerpt(bytes(message.payload))}
            for message in rejected.order_by("-pk")[:REJECTED]
        ],
        "commands": [_command(command) for command in device.commands.order_by("-pk")[:COMMANDS]],
        "sessions": _sessions(request, device),
        "ways": _ways(request, device),
        "stores": device.enabled and device.mapped_channel_id is not None,
        "state": [
            (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for name, value in state.items()
        ],
    }
    if device.mapped_channel_id is None:
        channels = Channel.objects.for_account(request.account)
        context |= {"channels": suggested(request), "number": channels.free_number()}
    else:
        points = newest_of_device(
            ChannelPk(device.mapped_channel_id), device.id, DATAPOINTS, LOOK_AT, CHARACTERS
        )
        context["datapoints"] = [
            MessageLine(point.at, point.tag, point.value, point.length > CHARACTERS) for point in points
        ]
    return render(request, "console/device/detail.html", SECTION | context)


def _held(device: Device) -> list[MessageLine]:
    """Newest first. The values are PostgreSQL's texts, so that a number keeps every digit."""
    texts = device.held.annotate(text=Cast("value", TextField())).order_by("-pk")
    found = texts.values_list("received_at", "tag", "text")
    return [MessageLine(at, tag, text[:CHARACTERS], len(text) > CHARACTERS) for at, tag, text in found]


def _command(command: Command) -> dict[str, Any]:
    payload = bytes(command.payload)
    shown = excerpt(payload[:CHARACTERS])
    return {"command": command, "excerpt": shown, "cut": len(payload) > CHARACTERS}


def _sessions(request: ConsoleRequest, device: Device) -> list[MqttSession]:
    """The device's connected clients, if their ids have the recommended form `DEVICE_something`. Operators
    see the gateway's name, too."""
    own = Q(client_id=device.device_id) | Q(client_id__startswith=f"{device.device_id}_")
    found = list(connected(request.account).filter(own)[:SESSIONS])
    if request.actor.is_staff and found:
        of_gateways = names()
        for session in found:
            session.gateway_name = of_gateways.get(session.gateway, "")
    return found


def _ways(request: ConsoleRequest, device: Device) -> list[dict[str, str]]:
    """Shell commands that send something as this device, each with the token and with the token masked."""
    full = snippets.context(request, request.account, device.device_id)
    topic = f"{snippets.MASK}/{snippets.JSON.topic(device.device_id)}"
    masked = full | {"token": snippets.MASK, "topic": topic}
    return [
        {
            "name": "MQTT" if way.mqtt else "HTTP",
            "masked": render_to_string(way.template, masked),
            "full": render_to_string(way.template, full),
        }
        for way in snippets.offered(snippets.broker(request))
        if way.key in WAYS
    ]
