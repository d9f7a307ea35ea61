"""Asks the database for its time, which is the time of all processes (lib/clock.py)."""

import psycopg

from thingscale.lib.clock import CLOCK, steady_ns

QUESTION = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
FIRST_TIMES = 10  # that a new connection asks: the quickest answer is the most exact


def follow(connection: psycopg.Connection, times: int = 1) -> None:
    """To be called at the start of a process, and again and again: clocks drift, and are set."""
    for _ in range(times):
        asked = steady_ns()
        ((shown,),) = connection.execute(QUESTION).fetchall()
        CLOCK.adjust(asked, steady_ns(), shown)
