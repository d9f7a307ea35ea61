"""Rows arrive in PostgreSQL as they were, whichever of their fields are null."""

from itertools import product

import pytest
from django.db import connection
from support import Account

from ingest.service import connect
from thingscale.lib.clock import now_us, to_us
from thingscale.streams import writer
from thingscale.streams.models import Latest

STORED = "SELECT channel, at, device, tag, value::text, dedupe FROM datapoint WHERE channel = %s ORDER BY at"

pytestmark = pytest.mark.django_db(transaction=True)


def test_copy_and_newest_values(account: Account) -> None:
    channel, at = account.channel().pk, now_us()
    values = [b"1", '{"naïve": [1, null]}'.encode(), b'"\\"{},"', b"-0.250", b"true", b"[]", b'""', b"0"]
    fields = product((None, 2**40), (None, 7), (None, -(2**63)))
    rows = [
        writer.Row(channel, at + place, device, tag, value, dedupe)
        for place, ((device, tag, dedupe), value) in enumerate(zip(fields, values, strict=True))
    ]
    with connect() as raw:
        writer.Partitions().ensure(raw, [at])
        with raw.transaction(), raw.cursor() as cursor:
            writer.write(cursor, list(reversed(rows)))
            cursor.execute(STORED, [channel])
            stored = [
                writer.Row(*row)._replace(at=to_us(row[1]), value=row[4].encode())
                for row in cursor.fetchall()
            ]
    assert stored == rows
    newest = {latest.tag: (to_us(latest.at), latest.count, latest.bytes) for latest in Latest.objects.all()}
    untagged, tagged = ([row for row in rows if row.tag == tag] for tag in (None, 7))
    assert newest == {
        tag: (some[-1].at, 4, sum(len(row.value) for row in some))
        for tag, some in ((0, untagged), (7, tagged))
    }
    with connection.cursor() as cursor:
        cursor.execute("SELECT value::text FROM streams_latest ORDER BY tag")
        assert cursor.fetchall() == [(some[-1].value.decode(),) for some in (untagged, tagged)]
