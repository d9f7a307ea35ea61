"""Why a message is not in its channel, in a sentence or two that say what to do."""

from thingscale.lib.reasons import ANSWERS

REASONS = {reason.value: answer.sentence for reason, answer in ANSWERS.items()}


def in_words(code: str | None) -> str:
    """The code itself if there are no words for it, and nothing for no code."""
    return REASONS.get(code, code) if code else ""
