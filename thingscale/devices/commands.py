"""Publishing to a device, and the record of it."""

import logging

from django.conf import settings
from django.db import IntegrityError, connection, transaction

from thingscale import mqtt
from thingscale.accounts.models import Token, User
from thingscale.devices.models import Command, Device
from thingscale.lib.errors import Refused

log = logging.getLogger(__name__)

UNAVAILABLE = "BROKER_UNAVAILABLE"


def send(user: User, device: Device, payload: bytes, qos: int, by: str) -> Command:
    """Returns when the broker has it (QoS 1) or it is on its way there (QoS 0); `by`: a Command.By.

    Raises Refused BROKER_UNAVAILABLE. What was sent and what failed is recorded either way.
    """
    command = Command(user=user, device=device, payload=payload, qos=qos, by=by)
    try:
        for topic in _topics(user, device):
            mqtt.publish(topic, payload, qos)
    except mqtt.Unavailable:
        command.result = UNAVAILABLE
        record(command)
        raise Refused(UNAVAILABLE, "The MQTT broker is away: publish again a little later.") from None
    record(command)
    return command


def record(command: Command) -> None:
    """Keeps the newest of each user."""
    try:
        with transaction.atomic():
            command.save(force_insert=True)
            _drop_oldest(command.user_id)
    except IntegrityError:
        log.info("A device was deleted while it was published to")


def _drop_oldest(user: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """DELETE FROM devices_command WHERE user_id = %s AND id <= (
                SELECT id FROM devices_command WHERE user_id = %s ORDER BY id DESC OFFSET %s LIMIT 1)""",
            [user, user, Command.KEPT],
        )


def _topics(user: User, device: Device) -> list[str]:
    """In broker mode each valid token of a rotation has its own."""
    if settings.INGEST_MODE == "gateway":
        return [f"{user.user_id}/{device.device_id}/subscribe"]
    tokens = Token.objects.live().filter(user=user, kind=Token.Kind.DEVICE)
    return [f"{token.plain}/{device.device_id}/subscribe" for token in tokens]
