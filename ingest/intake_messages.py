"""Readings of an intake -> messages for the writer; their outcomes -> what became of all of them. Pure."""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import xxhash

from ingest.message import Kind, Outcome, RawMessage, Reason, Status
from thingscale.intakes.formats.mapping import MAX_WORK_MQTT, Mapping
from thingscale.intakes.formats.readings import BadBody, Reading, by_device
from thingscale.lib.names import bad_device_id
from thingscale.lib.points import Points
from thingscale.lib.reasons import ANSWERS

log = logging.getLogger(__name__)

MAX_DEVICES = 2_000  # of a payload: everybody waits while devices are looked for that nobody knows
NO_MAPPING = "The mapping of this intake can't be read: open its page to mend it."


def messages(user: int, source: str, readings: Sequence[Reading], now: int) -> list[RawMessage]:
    """One for each device, or two: what has times of its own is recognised when it is sent again. To be
    submitted together. Raises BadBody for readings of no device, or of too many."""
    made: list[RawMessage] = []
    for (device_id, timed), points in by_device(readings, now).items():
        if reason := bad_device_id(device_id):
            raise BadBody(reason, "Its sender does not say which device it is: name one behind the key.")
        if len(made) >= MAX_DEVICES:
            raise BadBody(
                Reason.TOO_LARGE, f"A payload has at most {MAX_DEVICES:,} devices: send less at once."
            )
        dedupe = _key(user, device_id, points) if timed else None
        made.append(
            RawMessage(
                user,
                device_id,
                None,
                Kind.INTAKE,
                b"",
                now,
                dedupe,
                repeated=timed,
                source=source,
                points=points,
            )
        )
    return made


def of_publish(  # noqa: PLR0913, PLR0917  (a message, and who it is of)
    mapping: Mapping | None, user: int, source: str, topic: str, payload: bytes, now: int, dedupe: int | None
) -> list[RawMessage]:
    """What a mapping makes of an MQTT message; if it can't read it, a record of that. By `dedupe` the message
    is known when it is sent again, unless its readings have times of their own."""
    try:
        if mapping is None:
            raise BadBody(Reason.UNSTORABLE, NO_MAPPING)
        readings = read(lambda body: mapping.decode(topic, {}, body, now, MAX_WORK_MQTT), payload)
        made = messages(user, source, readings, now)
    except BadBody as bad:
        return [refused(user, source, payload, bad, now)]
    made = [each._replace(payload=payload) for each in made]
    if dedupe is None:
        return made
    # As an array of datapoints that a device sends.
    return [
        each
        if each.repeated
        else each._replace(
            kind=Kind.JSON, dedupe=xxhash.xxh3_64_intdigest(each.device_id.encode(), dedupe) >> 1
        )
        for each in made
    ]


def read(decode: Callable[[bytes], list[Reading]], payload: bytes) -> list[Reading]:
    """Raises BadBody, also if the fault is ours: the payload would be sent again for ever."""
    try:
        return decode(payload)
    except BadBody:
        raise
    except Exception:
        log.exception("A payload of %d bytes could not be read", len(payload))
        detail = "The platform failed to read it, which is in its log: send it in another form."
        raise BadBody(Reason.UNSTORABLE, detail) from None


def refused(user: int, source: str, body: bytes, bad: BadBody, now: int) -> RawMessage:
    """To be recorded only."""
    return RawMessage(
        user, "", None, Kind.INTAKE, body, now, refused=bad.reason, source=source, detail=bad.detail
    )


def too_fast(user: int, source: str, body: bytes, now: int) -> RawMessage:
    """To be recorded only: a message that has come by MQTT."""
    detail = "More datapoints a second come than the intake may take: of this message none is stored."
    return refused(user, source, body, BadBody(Reason.TOO_MANY_REQUESTS, detail), now)


class Taken(NamedTuple):
    """What became of a payload whose readings were submitted."""

    stored: int = 0  # devices whose readings are stored, now or before, or held
    reason: Reason | None = None  # of the first device that was refused
    device_id: str = ""  # of that
    detail: str = ""
    failed: bool = False  # nothing is stored, by the platform's fault
    refused: frozenset[str] = frozenset()  # ids of all devices that were


def taken(submitted: Sequence[RawMessage], outcomes: Sequence[Outcome]) -> Taken:
    if any(outcome.status is Status.FAILED for outcome in outcomes):
        return Taken(failed=True)
    pairs = list(zip(submitted, outcomes, strict=True))
    rejected = [pair for pair in pairs if pair[1].status is Status.REJECTED]
    count = len(pairs) - len(rejected)
    if not rejected:
        return Taken(count)
    raw, outcome = rejected[0]
    assert outcome.reason is not None
    return Taken(
        count,
        outcome.reason,
        raw.device_id,
        outcome.detail or ANSWERS[outcome.reason].sentence,
        refused=frozenset(message.device_id for message, _ in rejected),
    )


def _key(user: int, device_id: str, points: Points) -> int:
    """By which it is recognised while it is held."""
    digest = xxhash.xxh3_64(f"{user} {device_id}".encode())
    for tag, value, at in zip(*points, strict=True):
        digest.update(b"%d %d %s\0" % (at, len(value), value) + (tag or "").encode())
    return digest.intdigest() >> 1
