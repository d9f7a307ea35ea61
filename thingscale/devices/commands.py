"""Publishing to devices, and the record of it."""

import logging
from typing import NamedTuple

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils.translation import gettext as _

from thingscale.accounts.models import Account, Token
from thingscale.devices import mqtt_client
from thingscale.devices.models import Command, Device, Published
from thingscale.lib import names, own_topics
from thingscale.lib.errors import ContractError
from thingscale.processes.change_notifications import announce

log = logging.getLogger(__name__)

MAX_PAYLOAD = 64 * 1024
UNAVAILABLE = "BROKER_UNAVAILABLE"


class Message(NamedTuple):
    payload: bytes
    qos: int = 0
    retain: bool = False
    topic: str = ""  # without the token; empty: the device's own


def send(account: Account, device: Device, message: Message, by: str) -> Command:
    """`by`: a Command.By. What was sent and what failed is recorded.

    As the gateway's message it is committed: connected subscribers get it at once, the sessions of others
    when they come. In broker mode it returns when the broker has it (QoS 1 and 2) or it is on its way there
    (QoS 0), and raises ContractError BROKER_UNAVAILABLE.
    """
    payload, qos, retain, topic = message
    command = Command(
        user_id=account.pk, device=device, payload=payload, qos=qos, retain=retain, topic=topic, by=by
    )
    topic = topic or f"{device.device_id}/{names.COMMANDS}"
    if settings.INGEST_MODE == "gateway":
        if account.own_topics:
            topic = own_topics.of_command(topic)
        with transaction.atomic():
            if Device.objects.select_for_update(of=("self",), no_key=True).filter(pk=device.pk).exists():
                record(command)  # else it was deleted meanwhile: others may listen to its topic
            Published.objects.create(
                account_id=account.pk,
                topic=topic,
                payload=payload,
                qos=qos,
                retain=retain,
                command=command.pk or 0,
            )
            announce("published", account.pk)
        return command
    try:
        for token in Token.objects.live().filter(user=account, kind=Token.Kind.DEVICE):  # each of a rotation
            mqtt_client.publish(f"{token.plain}/{topic}", payload, qos, retain)
    except mqtt_client.Unavailable:
        command.result = UNAVAILABLE
        record(command)
        raise ContractError(
            UNAVAILABLE, _("The MQTT broker is away: publish again a little later.")
        ) from None
    record(command)
    return command


def record(command: Command) -> None:
    """Keeps the newest of each user."""
    try:
        with transaction.atomic():
            command.save(force_insert=True)
            with connection.cursor() as cursor:
                cursor.execute(
                    """DELETE FROM devices_command WHERE user_id = %s AND id <= (
                    SELECT id FROM devices_command WHERE user_id = %s ORDER BY id DESC OFFSET %s LIMIT 1)""",
                    [command.user_id, command.user_id, Command.KEPT],
                )
    except IntegrityError:
        log.info("A device was deleted while it was published to")
