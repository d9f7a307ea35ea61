"""Which of the workers that have claimed deliveries live.

Each holds an advisory lock for as long as it is connected, and the key of the lock is in the rows that it
claims. So what a worker has claimed that was killed is free within seconds, and not only when the claim is
over.
"""

import secrets
import time

import psycopg

LOCK = 7_475  # first key of the advisory locks; the second is the worker's
DEAD_SECONDS = 5.0  # without its lock. A worker whose connection broke has it again sooner
LOOK_SECONDS = 2.0

_HOLD = "SELECT pg_try_advisory_lock(%s, %s)"
_ALIVE = """SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
_RELEASE = """UPDATE events_delivery SET claimed_until = NULL, claimed_by = NULL
WHERE status = 'waiting' AND claimed_until > now() AND claimed_by <> ALL (%s)"""


class Claims:
    def __init__(self) -> None:
        self.worker = secrets.randbits(31)
        self._held = False
        self._connected_at = 0.0
        self._look_at = 0.0
        self._seen_at: dict[int, float] = {}  # workers, when they had their lock last
        self._released = False  # what died before this worker was there, or while it was away

    def connected(self) -> None:
        """The connection is a new one. If the database was away, all workers have yet to come back."""
        self._held = self._released = False
        self._connected_at = time.monotonic()
        self._look_at = 0.0

    def look(self, connection: psycopg.Connection) -> None:
        """Once in a while: what dead workers had claimed becomes free."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        if not self._held:  # a connection that broke may have it for a moment
            ((self._held,),) = connection.execute(_HOLD, [LOCK, self.worker]).fetchall()
        self._seen_at |= {worker: now for (worker,) in connection.execute(_ALIVE, [LOCK])}
        if now - self._connected_at < DEAD_SECONDS:
            return
        dead = {worker for worker, at in self._seen_at.items() if now - at >= DEAD_SECONDS}
        if dead or not self._released:
            living = self._seen_at.keys() - dead | {self.worker}
            connection.execute(_RELEASE, [list(living)])
            self._released = True
        for worker in dead:
            del self._seen_at[worker]
