-- As min_max.sql, from the rollups of whole hours.
SELECT
    tag, path, floor(date_part('epoch', hour) * 1000 / %(width)s) AS bucket,
    sum(numbers)::bigint AS count,
    min(ARRAY[low, low_ms]) AS low,
    max(ARRAY[high, high_ms]) AS high
FROM streams_rollup
WHERE channel = %(channel)s
    AND hour >= %(start)s AND hour < %(end)s
    AND hour <> ALL (%(stale)s::timestamptz[])
    AND (%(tag)s::int IS NULL OR tag = %(tag)s)
    AND tag NOT IN (SELECT d.tag FROM streams_deletedtag d WHERE d.channel = %(channel)s)
GROUP BY tag, path, bucket
