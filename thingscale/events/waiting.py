"""How much of an account may wait for the worker that follows observations. While a worker runs it takes care
itself that little waits (advance.py). While none does, the writers keep the table from growing without end:
each process counts what it writes, and now and then looks how much waits.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import psycopg

from thingscale.events import figures

log = logging.getLogger(__name__)

MOST = 50_000  # observations of an account
MOST_BYTES = 16 * 1024 * 1024  # of their values
LOOK_EACH = 5_000  # that were written
LOOK_SECONDS = 5.0  # where there is no room
MAX_ACCOUNTS = 10_000  # that are remembered
_COUNT = """SELECT count(*), coalesce(sum(octet_length(value)), 0)
FROM (SELECT value FROM events_observation WHERE account = %s LIMIT %s) found"""


class Room(IntEnum):
    """What is still written."""

    ALL = 0
    CHANGES = 1  # of states: matches of what is open already are dropped
    NONE = 2  # what is open stays so, and what is not opens with a later match, so states come out right


class Waiting:
    """In a process."""

    def __init__(self) -> None:
        self._room: dict[int, Room] = {}  # of accounts that have not enough of it
        self._look_at: dict[int, float] = {}  # those again
        self._written: Counter[int] = Counter()  # since the last look
        self._dropped = 0  # as is not counted yet

    def room(self, account: int) -> Room:
        return self._room.get(account, Room.ALL)

    def drop(self) -> None:
        self._dropped += 1

    def look(self, cursor: psycopg.Cursor[Any], written: Iterable[int]) -> None:
        """In the transaction that writes. `written`: the account of each observation."""
        self._written.update(written)
        now = time.monotonic()
        again = [account for account, at in list(self._look_at.items()) if at <= now]
        for account in {*again, *(each for each, n in list(self._written.items()) if n >= LOOK_EACH)}:
            self._written.pop(account, None)
            self._look_at.pop(account, None)
            ((count, size),) = cursor.execute(_COUNT, [account, 2 * MOST]).fetchall()
            full = max(count / MOST, size / MOST_BYTES)
            room = Room.NONE if full >= 2 else Room.CHANGES if full >= 1 else Room.ALL
            if room is Room.ALL:
                self._room.pop(account, None)
                continue
            if account not in self._room:
                log.warning("Of account %d, %d observations wait: does a worker run?", account, count)
            self._room[account] = room
            self._look_at[account] = now + LOOK_SECONDS
        if len(self._written) > MAX_ACCOUNTS:
            self._written.clear()
        if self._dropped and again:
            dropped, self._dropped = self._dropped, 0
            figures.count(cursor.connection, Counter({(figures.NOT_KEPT, ""): dropped}))


WAITING = Waiting()


def is_full(connection: Any, account: int) -> bool:
    """As a page says it."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, [account, MOST])
        count, size = cursor.fetchone()
    return bool(count >= MOST or size >= MOST_BYTES)
