"""What follows a commit, behind the acknowledgements: nobody waits for it, and no part of it may look as if
the batch had failed, which would store it again."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from ingest.activity import Activity
from ingest.batch import Batch, Item
from ingest.message import STORED, Kind
from ingest.quotas import Quotas
from thingscale.processes.live_feed import LIVE_FEED, MAX_MESSAGES
from thingscale.streams.exactly_once.window import DEDUPE_WINDOW

log = logging.getLogger(__name__)


class AfterCommit:
    """`first_contact` gets the primary keys of the devices that the batch has created."""

    def __init__(
        self, activity: Activity, quotas: Quotas, first_contact: Callable[[list[int]], None]
    ) -> None:
        self._activity = activity
        self._quotas = quotas
        self._first_contact = first_contact

    def run(self, batches: Sequence[Batch]) -> None:
        try:
            DEDUPE_WINDOW.start()  # a step of the clock is to be seen, though nobody may ask for a while
            for batch in batches:
                self._activity.note(batch)
                self._quotas.note(batch.users)
                if batch.first_contacts:
                    self._first_contact(batch.first_contacts)
                tell_pages(batch)
        except Exception:
            log.exception("What follows a commit failed")


def tell_pages(batch: Batch) -> None:
    """Little, however many messages of their user are in it; it costs nothing when nobody looks."""
    if not LIVE_FEED.watched:
        return
    try:
        for user, places in _places(batch.items, LIVE_FEED.watched).items():
            messages = [told for place in _chosen(batch, places) for told in batch.told(place)]
            LIVE_FEED.publish(user, _counts(batch, places), messages)
    except Exception:
        log.exception("Open pages were not told of a batch")


def _places(items: Sequence[Item], users: Collection[int]) -> dict[int, list[int]]:
    """Of the messages of each of these users, in order."""
    found: dict[int, list[int]] = {}
    for place, item in enumerate(items):
        user = item[0][0]
        if user in users and item[0][3] is not Kind.MESSAGE:
            found.setdefault(user, []).append(place)
    return found


def _chosen(batch: Batch, places: list[int]) -> list[int]:
    """The last messages and arrays, and the last datapoint of each device and tag."""
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


def _counts(batch: Batch, places: list[int]) -> Counter[str]:
    others = [outcome for place in places if (outcome := batch.outcomes[place]) is not STORED]
    counts = Counter(outcome.status.value for outcome in others)
    counts["stored"] += sum(batch.points(place) for place in places if batch.outcomes[place] is STORED)
    return counts
