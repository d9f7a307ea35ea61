"""Why a message is not in its channel, in a sentence or two that say what to do."""

from django.utils.translation import gettext

from thingscale.lib.reasons import ANSWERS, Reason
from thingscale.streams.recent_messages import RecentMessage

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
