"""An intake and what came in there, for tests of who may see it."""

from django.db import connection
from django.utils import timezone

from thingscale.accounts.models import User
from thingscale.intakes.actions import create_intake
from thingscale.intakes.formats.readings import Reading
from thingscale.intakes.messages import Note, note_messages
from thingscale.intakes.models import Intake, IntakeMessage


def intake_history(user: User) -> Intake:
    """The user's intake 1, with one message that was stored."""
    intake, _ = create_intake(user, {"name": "Servers", "format": "influx"})
    now = timezone.now()
    reading = Reading("x", "mem", b'{"used": 21}', None)
    body = b"mem,host=x used=21"
    source, headers = "POST /in/.../write", {"user-agent": "Telegraf/1.31.0"}
    stored = IntakeMessage.Outcome.STORED
    with connection.cursor() as cursor:
        note_messages(cursor, [Note.of(intake.id, now, source, headers, body, [reading], stored)])
    return intake
