"""What follows a commit, after the acknowledgements. Nobody waits for it. If it fails, that must not look as
if the batch had failed, which would store it again."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from ingest.activity import ActivityLog
from ingest.batch import Batch
from ingest.message import STORED, Kind
from ingest.quotas import Quotas
from thingscale.processes.live_feed import LIVE_FEED, MAX_MESSAGES
from thingscale.streams.exactly_once.window import DEDUPE_WINDOW

log = logging.getLogger(__name__)


class AfterCommit:
    """`first_contact` gets the primary keys of the devices that the batch has created."""

    def __init__(
        self, activity: ActivityLog, quotas: Quotas, first_contact: Callable[[list[int]], None]
    ) -> None:
        self._activity = activity
        self._quotas = quotas
        self._first_contact = first_contact

    def run(self, batches: Sequence[Batch]) -> None:
        try:
            DEDUPE_WINDOW.start()  # so that a step of the clock is noticed, even if nobody asks for a while
            for batch in batches:
                self._activity.note(batch)
                self._quotas.note(batch.users)
                if batch.first_contacts:
                    self._first_contact(batch.first_contacts)
                publish_events(batch)
        except Exception:
            log.exception("What follows a commit failed")


def publish_events(batch: Batch) -> None:
    """To the open pages of the users. A page gets few events, however many messages the batch has; without
    open pages this costs nothing."""
    if not LIVE_FEED.watched:
        return
    try:
        by_user: dict[int, list[int]] = {}
        for place, item in enumerate(batch.items):
            raw = item.raw
            if raw.user in LIVE_FEED.watched and raw.kind is not Kind.MESSAGE:
                by_user.setdefault(raw.user, []).append(place)
        for user, places in by_user.items():
            others = [outcome for place in places if (outcome := batch.outcomes[place]) is not STORED]
            counts = Counter(outcome.status.value for outcome in others)
            counts["stored"] += sum(
                batch.points(place) for place in places if batch.outcomes[place] is STORED
            )
            events = [event for place in _newest(batch, places) for event in batch.events(place)]
            LIVE_FEED.publish(user, counts, events)
    except Exception:
        log.exception("Open pages were not told of a batch")


def _newest(batch: Batch, places: list[int]) -> list[int]:
    """Places of the last messages and arrays, and of the last datapoint of each device and tag."""
    items, outcomes, state = batch.items, batch.outcomes, Kind.STATE
    newest: dict[tuple[str, str | None], int] = {}
    arrays: list[int] = []
    for place in places:
        raw = items[place][0]
        if items[place].array:
            arrays.append(place)
        elif raw[3] is not state and outcomes[place] is STORED:
            newest[raw[1], raw[2]] = place
    return sorted({*newest.values(), *arrays[-MAX_MESSAGES:], *places[-MAX_MESSAGES:]})
