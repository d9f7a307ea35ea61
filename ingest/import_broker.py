"""Takes over what the broker keeps behind which the gateway of an earlier release stood."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import psycopg
from django.conf import settings
from django.utils import timezone

from ingest.message import Copy, Kept
from ingest.mqtt.packets import PUBLISH, ProtocolError, Publish
from ingest.mqtt.properties import Property, write_properties
from ingest.old_broker import Away, OldBroker
from ingest.stored_packet import stored_packet
from thingscale.accounts.models import User
from thingscale.devices.models import ClientSession, DurableSession, Retained
from thingscale.devices.mqtt_store import previous_release, queues, retained
from thingscale.devices.mqtt_store.queues import Copies
from thingscale.devices.mqtt_store.retained import Retain
from thingscale.lib.names import valid_topic

AS_SENT = 2 | 1 << 3  # options of a subscription: at their QoS, retain as published


class Imported(NamedTuple):
    """What was taken over of one account."""

    retained: int
    sessions: int
    messages: int
    left: Sequence[str]  # client ids whose messages stay there


def import_account(connection: psycopg.Connection, broker: OldBroker, user: User) -> Imported:
    """Raises Away. What has been taken until then stays taken."""
    try:
        retained = sum(_retain(connection, user, messages) for messages in broker.retained(user.user_id))
        sessions, messages, left = 0, 0, []
        for client_id in _clients(user):
            count = _drain(connection, broker, user, client_id)
            if count is None:
                left.append(client_id)
            else:
                sessions, messages = sessions + 1, messages + count
    except (OSError, ProtocolError) as error:
        raise Away(f"The broker broke off: {error}.") from None
    return Imported(retained, sessions, messages, left)


def _retain(connection: psycopg.Connection, user: User, messages: Sequence[Publish]) -> int:
    """Leaves out messages whose topics have a retained message here, which is newer."""
    relative = {_relative(user, message.topic): message for message in messages}
    known = set(
        Retained.objects.filter(account=user, topic__in=list(relative)).values_list("topic", flat=True)
    )
    now = timezone.now()
    rows = []
    for topic, message in relative.items():
        if valid_topic(topic) and topic not in known and message.payload:
            expiry = message.properties.get(Property.MESSAGE_EXPIRY_INTERVAL)
            ends = None if expiry is None else now + timedelta(seconds=min(expiry, 2**31))
            rows.append(Retain(user.pk, topic, message.payload, message.qos, _properties(message), now, ends))
    with connection.transaction(), connection.cursor() as cursor:
        retained.retain(cursor, rows)
    return len(rows)


def _clients(user: User) -> list[str]:
    """Client ids that had durable sessions in the release before, also if a gateway has taken their rows
    over."""
    before = DurableSession.objects.for_account(user).values_list("client_id", flat=True)
    now = ClientSession.objects.filter(account=user, expiry__gt=0).values_list("client_id", flat=True)
    return sorted({*before, *now})


def _drain(connection: psycopg.Connection, broker: OldBroker, user: User, client_id: str) -> int | None:
    """Returns how many messages have come. None: they have to stay there for now."""
    with connection.transaction(), connection.cursor() as cursor:
        previous_release.adopt(cursor, settings.DURABLE_SESSION_DAYS, [(user.pk, client_id)])
        session = _away(cursor, user, client_id)
    count = 0
    with broker.session(user.user_id, client_id) as link:
        if link.present and session:
            for batch in link.batches():
                packets = []
                for message in batch:
                    topic = _relative(user, message.topic)
                    if message.qos and valid_topic(topic):  # messages at QoS 0 are not queued
                        kept = Kept(topic, message.qos, message.retain, _properties(message), (), None, 0, [])
                        packets.append(stored_packet(kept, message.payload))
                if packets and not _enqueue(connection, user, client_id, packets):
                    return None
                count += len(packets)
        elif link.present:
            client = ClientSession.objects.filter(account=user, client_id=client_id)
            if client.filter(ends_at=None).exists():  # it is connected
                return None
    broker.end_session(user.user_id, client_id)
    return count


def _away(cursor: psycopg.Cursor, user: User, client_id: str) -> int:
    """The key of the session, if its client is not connected: a connected client would not see what is put
    into its queue in this way. Nobody can open the session before the end of the transaction."""
    cursor.execute(
        """SELECT id FROM mqtt_session WHERE account_id = %s AND client_id = %s AND ends_at > now()
        FOR UPDATE""",
        [user.pk, client_id],
    )
    row = cursor.fetchone()
    return row[0] if row else 0


def _enqueue(connection: psycopg.Connection, user: User, client_id: str, packets: list[bytes]) -> bool:
    """Commits all of them; or none, if the session has no room or its client has connected."""
    taken = 0
    with connection.transaction(), connection.cursor() as cursor:
        if session := _away(cursor, user, client_id):
            copy: Copy = session, AS_SENT, ()
            _, taken = queues.enqueue(cursor, [Copies((copy,), packets)])[session]
        if taken < len(packets):
            raise psycopg.Rollback
    return taken == len(packets)


def _relative(user: User, topic: str) -> str:
    """Without the user id; empty if the topic is not the account's."""
    first, _, rest = topic.partition("/")
    return rest if first == user.user_id else ""


def _properties(message: Publish) -> bytes:
    ours = {Property.SUBSCRIPTION_IDENTIFIER, Property.TOPIC_ALIAS}  # the connection's
    return write_properties({k: v for k, v in message.properties.items() if k not in ours}, PUBLISH)
