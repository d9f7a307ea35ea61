-- Writes a batch, its number into the commit log, newest values and totals. Writes nothing if the writer has no row in
-- the commit log, has announcements to read, is fenced off, or has given up this batch (exactly_once/commit_log.py).
WITH mark AS (
    UPDATE streams_journal SET batch = CASE WHEN repeats > %s THEN batch ELSE %s END, at = now()
    WHERE writer = %s AND abs(batch) < %s AND NOT fenced
    RETURNING repeats
), points AS MATERIALIZED (
    SELECT place, channel, 'epoch'::timestamptz + at * '1 microsecond'::interval AS at, device, dedupe, tag, size, value
    FROM ROWS FROM (
        unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::int[], %s::bigint[]),
        jsonb_array_elements(%s::jsonb)
    ) WITH ORDINALITY AS p (channel, at, device, dedupe, tag, size, value, place)
    WHERE (SELECT repeats FROM mark) <= %s -- runs first, and waits for a lock on the row
), stored AS (
    INSERT INTO datapoint (channel, at, device, dedupe, tag, value)
    SELECT channel, at, device, dedupe, nullif(tag, 0), value FROM points ORDER BY place
), latest AS (
    INSERT INTO streams_latest AS l (channel_id, tag, at, value, count, bytes)
    SELECT DISTINCT ON (channel, tag) channel, tag, at, value, count(*) OVER same, sum(size) OVER same
    FROM points WINDOW same AS (PARTITION BY channel, tag)
    ORDER BY channel, tag, place DESC -- one order for all writers: no deadlock
    ON CONFLICT (channel_id, tag) DO UPDATE SET
        value = CASE WHEN excluded.at >= l.at THEN excluded.value ELSE l.value END,
        at = greatest(excluded.at, l.at),
        count = l.count + excluded.count,
        bytes = l.bytes + excluded.bytes
)
SELECT repeats FROM mark
