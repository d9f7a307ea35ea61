-- Newest value and totals of each (channel, tag) of a batch.
INSERT INTO streams_latest AS l (channel_id, tag, at, value, count, bytes)
SELECT channel, tag, at, value::jsonb, count, bytes
FROM unnest(%s::bigint[], %s::int[], %s::timestamptz[], %s::text[], %s::bigint[], %s::bigint[])
    AS batch (channel, tag, at, value, count, bytes)
ORDER BY channel, tag -- one order for all writers: no deadlock
ON CONFLICT (channel_id, tag) DO UPDATE SET
    value = CASE WHEN excluded.at >= l.at THEN excluded.value ELSE l.value END,
    at = greatest(excluded.at, l.at),
    count = l.count + excluded.count,
    bytes = l.bytes + excluded.bytes
