"""The console's table of datapoints, newest first, page by page; and the times of the oldest and the newest
one."""

from datetime import datetime
from typing import NamedTuple

from django.db import connection

from thingscale.lib import clock
from thingscale.lib.ids import ChannelPk
from thingscale.streams.queries import LAST, Key, Selection, reading, template

MAX_CHARACTERS = 1000  # of a value that are shown
_TABLE = template("table_page.sql").substitute()
_NEWEST = template("newest_at.sql").substitute()


class TableRow(NamedTuple):
    at: datetime
    id: int
    tag: str | None
    device_id: str | None  # None: written over REST
    value: str  # JSON text, cut

    @property
    def key(self) -> Key:
        return self.at.isoformat(), self.id


def table_page(selection: Selection, rows: int, before: Key = LAST) -> list[TableRow]:
    """Raises ContractError: RANGE_TOO_LARGE."""
    place = {"rows": rows, "characters": MAX_CHARACTERS, "before_at": before[0], "before_id": before[1]}
    with reading() as cursor:
        cursor.execute(_TABLE, selection.parameters | place)
        return [TableRow(*row) for row in cursor.fetchall()]


def newest_time_until_now(channel: ChannelPk) -> datetime | None:
    """The time of the newest datapoint that is not in the future."""
    selection = Selection(channel, "UTC", end=clock.now())
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST, selection.parameters)
        row = cursor.fetchone()
    return row[0] if row else None


def oldest_time(channel: ChannelPk) -> datetime | None:
    """The time of the oldest datapoint."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT at FROM datapoint WHERE channel = %s ORDER BY at LIMIT 1", [channel])
        row = cursor.fetchone()
    return row[0] if row else None
