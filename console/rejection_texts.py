"""Why a message is not in its channel, in a sentence or two that say what to do."""

import re

from django.utils.translation import gettext

from thingscale.lib.reasons import ANSWERS, Reason
from thingscale.streams.recent_messages import RecentMessage

OF_INTAKE = re.compile(r"intake ([0-9]{1,9})(?:: |$)")  # what ingest calls a message's source
REASONS = {reason.value: answer.sentence for reason, answer in ANSWERS.items()}


def in_words(code: str | None) -> str:
    """The code itself if there are no words for it, and nothing for no code."""
    return gettext(REASONS[code]) if code in REASONS else code or ""


def for_intake(message: RecentMessage | None) -> str:
    """The topic of a message that an intake could take, without the token; else "". One with another token is
    no case for an intake. The same as intakeTopic() of inspector.js."""
    if message is None or "/" not in message.kind or " " in message.kind or message.kind.startswith("/"):
        return ""
    with_token = message.kind.startswith("TOKEN/")
    fits = message.reason == Reason.UNKNOWN_TOPIC or (
        message.reason == Reason.AUTH_REQUIRED and not with_token
    )
    return message.kind.removeprefix("TOKEN/") if fits else ""


def of_intake(source: str) -> int | None:
    """The number of the intake that a message came to. The same as intakeNumber() of inspector.js."""
    found = OF_INTAKE.match(source)
    return int(found[1]) if found else None
