import asyncio
import secrets
import signal
import sys
from collections.abc import Sequence
from typing import Any

import uvloop
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from ingest.simulate import devices, report
from ingest.simulate.http import HttpSender
from ingest.simulate.mqtt import MqttSender
from ingest.simulate.run import Sender, simulate
from thingscale.accounts.credentials import credentials
from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.lib.errors import ContractError
from thingscale.provisioning.actions import configure_device
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.models import Channel

STREAMS = [
    {"key": "temp", "label": "Temperature", "unit": "°C"},
    {"key": "humidity", "label": "Humidity", "unit": "%"},
    {"key": "speed", "label": "Speed", "unit": "m/s"},
]


class Command(BaseCommand):
    help = (
        "Lets simulated devices send through the running connectors, and checks that what was acknowledged "
        "is stored, once. They are named sim-RUN-NUMBER and stay, like their data. Ctrl-C ends it early."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", help="such as U000001; default: the first account")
        parser.add_argument("--devices", type=int, default=20)
        parser.add_argument("--rate", type=float, default=50, help="messages a second, all devices together")
        parser.add_argument("--protocol", choices=["mqtt", "http", "mixed"], default="mixed")
        parser.add_argument("--qos", type=int, choices=[0, 1, 2], default=1)
        parser.add_argument("--duration", type=float, default=30, help="seconds")
        parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same data")
        parser.add_argument("--channel", type=int, default=1000, help="created if missing")
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--mqtt-port", type=int, default=settings.MQTT_PORT)
        parser.add_argument("--http-port", type=int, default=8000)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["devices"] < 1 or options["rate"] <= 0:
            raise CommandError("Give at least one device and a rate above 0.")
        user = _user(options["user"])
        run = secrets.token_hex(3)
        try:
            names = prepare(user, run, options["devices"], options["channel"])
        except ContractError as refused:
            raise CommandError(f"{refused.code}: {refused.detail}") from None
        self.stdout.write(f"Run {run}: {len(names)} devices of {user.user_id}, channel {options['channel']}.")
        shown = credentials(user)

        async def go() -> tuple[Sequence[Sender], float]:
            senders = make_senders(names, shown["user_id"], shown["device_token"], options)
            return senders, await self._simulate(senders, options["rate"], options["duration"])

        senders, seconds = uvloop.run(go())
        tallies = [sender.tally for sender in senders]
        findings = report.compare(tallies, report.find(user.pk, run))
        self.stdout.write(report.render(tallies, findings, seconds))
        if not findings.good:
            sys.exit(1)

    async def _simulate(self, senders: Sequence[Sender], rate: float, duration: float) -> float:
        stop, last = asyncio.Event(), 0
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        tallies = [sender.tally for sender in senders]

        def progress(seconds: float) -> None:
            nonlocal last
            self.stdout.write(report.progress_line(seconds, tallies, last))
            self.stdout.flush()
            last = sum(tally.sent for tally in tallies)

        return await simulate(senders, rate, duration, stop, progress)


def prepare(user: User, run: str, count: int, number: int) -> list[str]:
    """The devices, enabled and mapped to the channel. Raises ContractError."""
    names = [f"sim-{run}-{place}" for place in range(count)]
    with transaction.atomic():
        channel = Channel.objects.for_account(user).filter(number=number).first()
        channel = channel or create_channel(user, number, name="Simulation", streams=STREAMS)
        for name in names:
            configure_device(
                create_device(user, name, description="Simulated."), {"mapped_channel_id": channel.pk}
            )
    return names


def make_senders(names: Sequence[str], user_id: str, token: str, options: dict[str, Any]) -> Sequence[Sender]:
    """Mixed: one half of the devices by MQTT, the other by HTTP."""
    mqtt, http = ((options["host"], options[port]) for port in ("mqtt_port", "http_port"))
    by_http = {"mqtt": 0, "http": len(names), "mixed": len(names) // 2}[options["protocol"]]
    made: list[Sender] = []
    for place, name in enumerate(names):
        if place < by_http:
            device = devices.make(name, place, options["seed"], over_http=True)
            made.append(HttpSender(device, http, token))
        else:
            device = devices.make(name, place - by_http, options["seed"], over_http=False)
            made.append(MqttSender(device, mqtt, user_id, token, options["qos"]))
    return made


def _user(user_id: str | None) -> User:
    try:
        user = User.objects.by_user_id(user_id) if user_id else User.objects.order_by("pk").first()
    except User.DoesNotExist:
        raise CommandError(f"There is no account {user_id}.") from None
    if user is None:
        raise CommandError("There is no account yet: create one with manage.py create_account.")
    return user
