from itertools import count

import psycopg
import pytest
from stack import wait_until

from ingest.service import connect
from thingscale.processes import database_clock
from thingscale.processes.change_notifications import CHANNEL, Change, Listener

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_was_announced_before_a_check_is_told_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has heard of a check takes it that all announcements until then were heard."""
    announced, told, at_checks = count(1), [], []
    follow = database_clock.follow

    def announce_and_follow(connection: psycopg.Connection, times: int = 1) -> None:
        with connect() as other:
            for _ in range(3):
                other.execute("SELECT pg_notify(%s, %s)", [CHANNEL, f"tokens:{next(announced)}:"])
        follow(connection, times)

    def on_change(change: Change | None) -> None:
        if change:
            told.append(change[1])

    monkeypatch.setattr(database_clock, "follow", announce_and_follow)
    listener = Listener(connect, on_change, lambda asked: at_checks.append(len(told)))
    listener.start()
    try:
        wait_until(lambda: len(at_checks) > 2, 30, "three checks")
    finally:
        listener.stop()
    assert at_checks[:3] == [6, 9, 12]
    assert told == list(range(1, len(told) + 1))
