"""Notes what MQTT messages without a token became, for the pages of their intakes."""

from ingest.intake_cache import KnownIntake
from ingest.intake_log import IntakeLog
from ingest.message import Outcome, RawMessage, Status
from thingscale.intakes.formats.readings import Reading
from thingscale.intakes.messages import Note
from thingscale.intakes.models import IntakeMessage
from thingscale.lib.clock import from_us, now
from thingscale.lib.ids import IntakePk


class IntakeNotes:
    def __init__(self) -> None:
        self.log = IntakeLog()

    def note(self, intake: KnownIntake, topic: str, message: RawMessage, outcome: Outcome) -> None:
        """`message`: of one device."""
        became = IntakeMessage.Outcome.STORED
        if outcome.status is Status.REJECTED:
            became = IntakeMessage.Outcome.REJECTED
        elif outcome.held:
            became = IntakeMessage.Outcome.HELD
        if not self.log.wants(intake.pk, became):
            return
        readings = []
        if points := message.points:
            readings = [
                Reading(message.device_id, tag, value, at) for tag, value, at in zip(*points, strict=True)
            ]
        reason, detail = outcome.reason.value if outcome.reason else "", outcome.detail
        at = from_us(message.received_at)
        self.log.note(
            Note.of(IntakePk(intake.pk), at, topic, {}, message.payload, readings, became, reason, detail)
        )

    def note_nothing(self, intake: KnownIntake, topic: str, payload: bytes) -> None:
        """The mapping takes nothing from it."""
        became = IntakeMessage.Outcome.NOTHING
        if self.log.wants(intake.pk, became):
            self.log.note(Note.of(IntakePk(intake.pk), now(), topic, {}, payload, (), became))
