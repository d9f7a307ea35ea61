"""What becomes of conditions when their event is changed."""

from collections.abc import Collection

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from thingscale.events import mqtt_state
from thingscale.events.models import Condition, Event, Incident

# Whoever changes one of these watches for something else than before. The others only change what is said of
# it, and to whom.
WATCHED_FIELDS = frozenset(
    {
        *("mapped_channel", "mapped_channel_id", "enabled", "source", "operator", "threshold", "repeat"),
        *("kind", "devices", "hold", "clear", "window", "period", "grace", "no_data_after"),
    }
)


def reset(events: Collection[int]) -> None:
    """They begin anew. Nobody is told that they do not fire any more: whoever changed them knows. What
    writers saw of the old ones is not followed. In the caller's transaction, after the change."""
    Event.objects.filter(pk__in=events).update(changed_at=Now())
    close_incidents(Incident.objects.filter(event__in=events))
    forgotten, _ = Condition.objects.filter(event__in=events).delete()
    if forgotten:
        with connection.cursor() as cursor:
            mqtt_state.publish(cursor, events)


def close_incidents(incidents: QuerySet[Incident]) -> None:
    incidents.filter(ended_at=None).update(ended_at=Now(), over=Incident.Over.CHANGED)


@transaction.atomic
def look_again(conditions: QuerySet[Condition]) -> None:
    """Something that may have kept their receivers from being told has changed: the worker looks. It locks
    them in the same order."""
    waiting = conditions.exclude(due_at=None).order_by("pk").select_for_update(of=("self",))
    Condition.objects.filter(pk__in=list(waiting.values_list("pk", flat=True))).update(due_at=Now())
