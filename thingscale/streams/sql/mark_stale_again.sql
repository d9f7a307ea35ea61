-- Marks one hour of a channel, if one is given, and all hours up to it, or at all, that are marked already.
INSERT INTO streams_stalehour AS s (channel, hour)
SELECT channel, hour
FROM (
    SELECT channel, hour
    FROM streams_stalehour
    WHERE channel = %(channel)s AND hour <= coalesce(%(until)s::timestamptz, 'infinity')
    UNION
    SELECT %(channel)s, %(until)s WHERE %(until)s::timestamptz IS NOT NULL
) AS changed
ORDER BY hour -- as in mark_stale.sql: no deadlock
ON CONFLICT (channel, hour) DO UPDATE SET version = s.version + 1
