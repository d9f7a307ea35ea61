-- The rollups of a host's numbers in whole hours.
SELECT r.hour, coalesce(t.name, ''), r.path, r.low, r.low_ms, r.high, r.high_ms
FROM streams_rollup r
LEFT JOIN streams_tag t ON t.id = r.tag
WHERE r.channel = %(channel)s AND r.hour >= %(start)s AND r.hour < %(end)s
    AND r.path = ANY (%(paths)s)
    AND r.hour <> ALL (%(stale)s::timestamptz[])
    AND (r.tag = 0 OR (
        t.name ~ %(tags)s AND NOT EXISTS (SELECT FROM streams_deletedtag g WHERE g.tag = r.tag)
    ))
ORDER BY r.hour
