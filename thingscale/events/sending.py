"""Sends what was claimed. It runs in the threads of `Deliveries` and uses no database."""

import json
import logging
import time
from dataclasses import dataclass, field
from random import uniform
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.core.mail import get_connection

from thingscale.accounts import encryption
from thingscale.events import words
from thingscale.events.models import Delivery
from thingscale.events.shares import Wanted
from thingscale.events.transports import Outcome, Result, contact, http, in_short, mail

log = logging.getLogger(__name__)

# Seconds until it is tried again; the last one from then on. Each is varied, so that what failed together
# does not come again together.
BACK_OFF = (5, 15, 60, 300, 900, 1800, 3600)
DAY = 24 * 3600.0  # for which it is tried
CLAIM_SECONDS = 60.0  # then another worker takes it
JOB_SECONDS = 25.0  # no further message of a job begins after it
GIVEN_UP = "Given up after a day."


@dataclass
class Claimed:
    """A delivery. What is needed to send it, from `post_url` on, is read only of those that are shown."""

    id: UUID
    user: int
    receiver: str
    transport: str
    about: str
    tries: int
    age: float  # seconds
    post_url: str | None = None
    secret: bytes | None = None
    contact: bytes | None = None
    contact_enabled: bool | None = None
    account_active: bool = True
    body: str = ""

    @property
    def content(self) -> Any:
        return json.loads(self.body)


@dataclass
class Job:
    """Webhooks to one receiver, one after the other, or the messages for one person."""

    wanted: Wanted
    messages: list[list[Claimed]]
    claimed_at: float = field(default_factory=time.monotonic)

    @property
    def late(self) -> bool:
        return time.monotonic() - self.claimed_at > JOB_SECONDS


class Note(NamedTuple):
    """What became of a delivery, for its row."""

    id: UUID
    status: Delivery.Status
    answer: str = ""
    delay: float | None = None  # seconds until it is due
    tries: int = 1


@dataclass
class Done:
    """What became of a job."""

    job: Job
    notes: list[Note] = field(default_factory=list)
    messages: int = 0  # that went out
    well: bool = True  # the receiver answered
    server_well: bool = True  # the mail server did
    pause: float = 0.0  # what the receiver asks for
    seconds: float = 1.0  # that a message took


def do(job: Job) -> Done:
    done, began = Done(job), time.monotonic()
    mails = (
        get_connection()
        if any(row[0].transport == Delivery.Transport.EMAIL for row in job.messages)
        else None
    )
    for number, rows in enumerate(job.messages):
        if job.late:
            done.notes += [Note(row.id, Delivery.Status.WAITING, delay=0.0, tries=0) for row in rows]
            continue
        try:
            outcome = _send(rows, mails)
        except encryption.Undecryptable:
            outcome = Outcome(
                Result.RETRY, "Its address or secret can't be read: THINGSCALE_SECRET_KEYS lacks a key."
            )
        except Exception as error:
            log.exception("A notification can't be sent")
            outcome = Outcome(Result.RETRY, f"It could not be sent ({type(error).__name__}).")
        done.notes += [_note(row, outcome) for row in rows]
        if outcome.result is Result.SENT:
            done.messages += 1
        if outcome.result is Result.RETRY:
            done.well, done.pause = False, outcome.retry_after or 0.0
            done.server_well = mails is None
            later = [row for rest in job.messages[number + 1 :] for row in rest]
            if job.wanted.for_people:
                done.notes += [_note(row, outcome)._replace(tries=0) for row in later]
            else:  # to other addresses at the same host, perhaps
                done.notes += [Note(row.id, Delivery.Status.WAITING, delay=0.0, tries=0) for row in later]
            break
    done.seconds = (time.monotonic() - began) / len(job.messages)
    return done


def _send(rows: list[Claimed], mails: Any) -> Outcome:
    first = rows[0]
    if not first.account_active:
        return Outcome(Result.FAILED, "The account is not active.")
    if first.transport == Delivery.Transport.HTTP:
        if first.post_url is None:
            return Outcome(Result.FAILED, "The event was deleted.")
        secret = encryption.decrypt(first.secret or b"", encryption.Purpose.NOTIFICATION)
        return http.send(first.post_url, first.body.encode(), secret, str(first.id))
    if len(rows) > 1:
        shown = [(row.content, row.about) for row in rows[: words.LISTED]]
        title, text = words.digest(shown, len(rows), settings.PUBLIC_URL)
    else:
        title = words.title(first.content, first.about)
        text = words.text(first.content, first.about, settings.PUBLIC_URL)
    if mails is not None:
        return mail.send(mails, first.receiver, title, text, str(first.id))
    if first.contact is None:
        return Outcome(Result.FAILED, "The contact point was deleted.")
    if not first.contact_enabled:
        return Outcome(Result.FAILED, "The contact point is disabled.")
    url = encryption.decrypt(first.contact, encryption.Purpose.NOTIFICATION)
    return contact.send(url, contact.ServiceMessage(title, text, first.content.get("severity") or ""))


def _note(row: Claimed, outcome: Outcome) -> Note:
    if outcome.result is Result.SENT:
        return Note(row.id, Delivery.Status.SENT, outcome.answer)
    if outcome.result is Result.FAILED:
        return Note(row.id, Delivery.Status.FAILED, outcome.answer)
    left = DAY - row.age
    if left <= 0:
        return Note(row.id, Delivery.Status.FAILED, in_short(f"{GIVEN_UP} {outcome.answer}"))
    delay = BACK_OFF[min(row.tries, len(BACK_OFF) - 1)] * uniform(0.8, 1.2)  # noqa: S311
    return Note(
        row.id, Delivery.Status.WAITING, outcome.answer, min(max(delay, outcome.retry_after or 0.0), left)
    )
