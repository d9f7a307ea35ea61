-- Writes the newest value and the totals of each channel and tag of a batch.
INSERT INTO streams_latest AS l (channel_id, tag, at, value, count, bytes)
SELECT channel, tag, 'epoch'::timestamptz + at * '1 microsecond'::interval, value, count, bytes
FROM ROWS FROM (
    unnest(%s::bigint[], %s::int[], %s::bigint[], %s::bigint[], %s::bigint[]), jsonb_array_elements(%s::jsonb)
) AS batch (channel, tag, at, count, bytes, value)
ORDER BY channel, tag -- one order for all writers: no deadlock
ON CONFLICT (channel_id, tag) DO UPDATE SET
    value = CASE WHEN excluded.at >= l.at THEN excluded.value ELSE l.value END,
    at = greatest(excluded.at, l.at),
    count = l.count + excluded.count,
    bytes = l.bytes + excluded.bytes
