"""Which intake has this key? The answers, also negative ones, are kept in memory until the account's intakes
change."""

import logging
import threading
import time
from collections.abc import Iterable
from collections.abc import Mapping as MappingOf
from typing import Any, NamedTuple

from django.db import close_old_connections

from thingscale.intakes import keys
from thingscale.intakes.decoding import mapping_of
from thingscale.intakes.formats.mapped import BadMapping
from thingscale.intakes.formats.mapping import Mapping, topic_fits
from thingscale.intakes.models import Intake
from thingscale.lib import tokens
from thingscale.processes.change_notifications import INTAKES, Change

log = logging.getLogger(__name__)

NEGATIVE_SECONDS = 5.0
MAX_ENTRIES = 10_000
OWN_PATHS = 0  # in place of an intake's key: the senders' own paths, with the device token


class KnownIntake(NamedTuple):
    pk: int
    user: int  # primary key
    format: Intake.Format
    source: str  # for lists of messages: "intake 3"
    options: MappingOf[str, Any]
    mapping: Mapping | None  # of `mapped`
    preset: str
    rate: int | None  # datapoints a second
    topics: tuple[tuple[str, ...], ...] = ()  # levels of each MQTT filter


class IntakeCache:
    def __init__(self) -> None:
        self._found: dict[bytes, KnownIntake] = {}  # by the hash of its key
        self._unknown: dict[bytes, float] = {}  # until when, monotonic
        self._lock = threading.Lock()
        self._generation = 0

    def cached(self, key: str) -> tuple[bool, KnownIntake | None]:
        """Without asking the database: whether it is known, and which intake it is."""
        if not keys.well_formed(key):
            return True, None
        digest = tokens.digest(key)
        found = self._found.get(digest)
        return found is not None or self._unknown.get(digest, 0.0) >= time.monotonic(), found

    def find(self, key: str) -> KnownIntake | None:
        """Asks the database, if need be. Blocks; raises django.db.Error while it is away."""
        known, found = self.cached(key)
        if known:
            return found
        generation = self._generation
        close_old_connections()
        stored = Intake.objects.enabled().with_key(key).first()
        digest = tokens.digest(key)
        found = _known(stored) if stored else None
        with self._lock:
            if generation == self._generation:
                if found:
                    if len(self._found) >= MAX_ENTRIES:
                        self._found.clear()
                    self._found[digest] = found
                else:  # anybody can send those: they push out no others
                    if len(self._unknown) >= MAX_ENTRIES:
                        self._unknown.clear()
                    self._unknown[digest] = time.monotonic() + NEGATIVE_SECONDS
        return found

    def on_change(self, change: Change | None) -> None:
        """In the listener's thread."""
        if change and change[0] not in {INTAKES, "limits"}:
            return
        with self._lock:
            self._generation += 1
            self._unknown.clear()
            if change is None:
                self._found.clear()
            else:
                self._found = {digest: each for digest, each in self._found.items() if each.user != change[1]}


def _mapping(stored: Intake) -> Mapping | None:
    """None, also if this release does not understand it: its messages are refused then."""
    if stored.format != Intake.Format.MAPPED:
        return None
    try:
        return mapping_of(stored.preset, stored.mapping)
    except BadMapping:
        log.warning("The mapping of intake %d can't be used by this release", stored.pk)
        return None


def _known(stored: Intake) -> KnownIntake:
    return KnownIntake(
        stored.pk,
        stored.user_id,
        Intake.Format(stored.format),
        f"intake {stored.number}",
        stored.options,
        _mapping(stored),
        stored.preset,
        stored.rate,
        tuple(tuple(topic.split("/")) for topic in stored.topics),
    )


def with_topics(user: int) -> tuple[KnownIntake, ...]:
    """The account's intakes that take MQTT messages without a token, if it has those, in the order in which
    they are asked. Blocks; raises django.db.Error."""
    intakes = Intake.objects.enabled().with_topic().filter(user=user, user__own_topics=True)
    return tuple(map(_known, intakes))


def taking(intakes: Iterable[KnownIntake], topic: str) -> KnownIntake | None:
    """Which of them takes messages to this topic."""
    levels = topic.split("/")
    return next((each for each in intakes if any(topic_fits(topic, levels) for topic in each.topics)), None)
