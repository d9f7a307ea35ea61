"""The reasons why a message is not in its channel. MQTT, HTTP and the console derive their answers from one
table.

A new reason needs a member and a row here, and for people its rows in docs/contract.md and `make openapi`:
tests/lib/test_lib_reasons.py and tests/test_contract.py look for them.
"""

from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """The codes of docs/contract.md: the original's, and ours where it has none."""

    AUTH_REQUIRED = "AUTH_REQUIRED"
    BAD_JSON_FORMAT = "BAD_JSON_FORMAT"
    BAD_PARAMETER = "BAD_PARAMETER"
    DEVICE_DISABLED = "DEVICE_DISABLED"
    DEVICE_ID_ZERO = "DEVICE_ID_ZERO"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    MAX_DEVICE_REACH = "MAX_DEVICE_REACH"
    NEW_DEVICE_FOUND = "NEW_DEVICE_FOUND"
    NO_MAPPED_CH = "NO_MAPPED_CH"
    NUL_CHARACTER = "NUL_CHARACTER"
    PLATFORM_TOPIC = "PLATFORM_TOPIC"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    SIGN_IN_REFUSED = "SIGN_IN_REFUSED"
    TOO_LARGE = "TOO_LARGE"
    TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
    UNKNOWN_TOPIC = "UNKNOWN_TOPIC"
    UNSTORABLE = "UNSTORABLE"  # PostgreSQL refused the value


class ReasonAnswer(NamedTuple):
    """What HTTP, MQTT and the console say for a reason."""

    http: int  # status
    mqtt: int  # reason code of PUBACK and PUBREC in MQTT 5
    sentence: str  # what to do about it, for people
    code: str = ""  # what HTTP answers in its place, for clients that know a more general code
    held: bool = False  # the message is kept, and stored once its device is ready


NOT_AUTHORIZED, TOPIC_NAME, QUOTA, FORMAT = 0x87, 0x90, 0x97, 0x99  # MQTT 5, table 2-6

ANSWERS: dict[Reason, ReasonAnswer] = {
    Reason.AUTH_REQUIRED: ReasonAnswer(
        401,
        NOT_AUTHORIZED,
        "The token in it was missing, wrong or old: a topic begins with the current device token, as in"
        " TOKEN/json/DEVICE; HTTP has it in X-DEVICETOKEN.",
    ),
    Reason.BAD_JSON_FORMAT: ReasonAnswer(
        400,
        FORMAT,
        "It could not be read: send a whole JSON object, a number, true, false or text in UTF-8 without"
        " control characters, at most 32 levels deep, no number beyond a double; to state, key=value pairs.",
    ),
    Reason.BAD_PARAMETER: ReasonAnswer(
        400,
        TOPIC_NAME,
        "A device id or tag in it can't be used: a device id has up to 64 characters, without / + #;"
        " a tag up to 128, without + #.",
    ),
    Reason.DEVICE_DISABLED: ReasonAnswer(
        403, NOT_AUTHORIZED, "The device is not enabled: enable it to take what it sends."
    ),
    Reason.DEVICE_ID_ZERO: ReasonAnswer(
        400, TOPIC_NAME, "The device id was empty or 0: give the device an id of its own."
    ),
    Reason.IDEMPOTENCY_KEY_REUSED: ReasonAnswer(
        422, FORMAT, "Its Idempotency-Key had come with another body: give each message a key of its own."
    ),
    Reason.MAX_DEVICE_REACH: ReasonAnswer(403, QUOTA, "The account has no room for another device."),
    Reason.PLATFORM_TOPIC: ReasonAnswer(
        400,
        NOT_AUTHORIZED,
        "Only the platform publishes below TOKEN/events/: there it says how it stands with each event.",
        code="BAD_PARAMETER",
    ),
    Reason.QUOTA_EXCEEDED: ReasonAnswer(
        403,
        QUOTA,
        "The account has no room for it: see Use and limits in the profile.",
    ),
    Reason.NEW_DEVICE_FOUND: ReasonAnswer(
        201,
        NOT_AUTHORIZED,
        "This was the device's first message: enable the device and map it to a channel.",
        held=True,
    ),
    Reason.NO_MAPPED_CH: ReasonAnswer(
        403, NOT_AUTHORIZED, "The device has no channel: map it to one.", held=True
    ),
    Reason.NUL_CHARACTER: ReasonAnswer(
        400,
        FORMAT,
        "It had a NUL character in it (\\u0000, or text in UTF-16), which can't be stored: leave that out,"
        " and send UTF-8.",
        code="BAD_JSON_FORMAT",
    ),
    Reason.SIGN_IN_REFUSED: ReasonAnswer(
        401,
        NOT_AUTHORIZED,
        "An MQTT client could not sign in: its user name has to be the user id, its password the current"
        " device token. One such attempt a client and ten an hour are listed.",
        code="AUTH_REQUIRED",
    ),
    Reason.TOO_LARGE: ReasonAnswer(
        413,
        FORMAT,
        "It was larger than 64 KiB (a state: 16 KiB), or than 256 KiB with its numbers written out:"
        " send less at a time.",
    ),
    Reason.TOO_MANY_REQUESTS: ReasonAnswer(
        429,
        QUOTA,
        "The device sent faster than it may, so this was not read: let it wait as long as Retry-After says."
        " One such message a device and minute is listed.",
    ),
    Reason.UNKNOWN_TOPIC: ReasonAnswer(
        400,
        TOPIC_NAME,
        "Its topic means nothing here: publish to TOKEN/json/DEVICE or TOKEN/json/DEVICE/TAG.",
        code="BAD_PARAMETER",
    ),
    Reason.UNSTORABLE: ReasonAnswer(
        400,
        FORMAT,
        "The database refused the value: look for numbers beyond all measure or broken text in it.",
        code="BAD_JSON_FORMAT",
    ),
}
