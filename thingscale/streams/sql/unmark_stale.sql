-- An hour that was marked again meanwhile stays.
WITH settled AS (
    SELECT s.channel, s.hour
    FROM streams_stalehour AS s
    JOIN unnest(%s::bigint[], %s::timestamptz[], %s::bigint[]) AS rolled (channel, hour, version)
    USING (channel, hour, version)
    ORDER BY s.channel, s.hour -- as in mark_stale.sql: no deadlock
    FOR UPDATE OF s
)
DELETE FROM streams_stalehour AS s
USING settled
WHERE s.channel = settled.channel AND s.hour = settled.hour
RETURNING s.channel, s.hour
