"""Why a message is not in its channel, in words: one sentence, or two, that say what to do."""

REASONS = {
    "AUTH_REQUIRED": "Its token was wrong or old: give the device the current device token.",
    "BAD_JSON_FORMAT": "It could not be read: send a JSON object, number or text; key=value pairs to state.",
    "BAD_PARAMETER": "A device id or tag in it can't be used: up to 64 characters, without / + #.",
    "DEVICE_DISABLED": "The device is not enabled: enable it to take what it sends.",
    "DEVICE_ID_ZERO": "The device id was empty or 0: give the device an id of its own.",
    "IDEMPOTENCY_KEY_REUSED": "Its Idempotency-Key had come with another body: give each message its own.",
    "MAX_DEVICE_REACH": "The account has no room for another device: delete one that is no longer used.",
    "NEW_DEVICE_FOUND": "This was the device's first message: enable the device and map it to a channel.",
    "NO_MAPPED_CH": "The device has no channel: map it to one.",
    "NUL_CHARACTER": "It had a NUL character (\\u0000) in it, which can't be stored: leave that out.",
    "TOO_LARGE": "It was larger than 64 KiB: send less at a time.",
    "UNKNOWN_TOPIC": "Its topic means nothing here: publish to TOKEN/json/DEVICE or TOKEN/json/DEVICE/TAG.",
    "UNSTORABLE": "The database refused the value: look for numbers beyond all measure or broken text in it.",
}


def in_words(code: str | None) -> str:
    """The code itself, if there are no words for it; nothing for no code."""
    return REASONS.get(code, code) if code else ""
