-- Those of a channel's hours that are marked: rollups that are being made of them are not put.
UPDATE streams_stalehour AS s
SET version = s.version + 1
FROM (
    SELECT channel, hour
    FROM streams_stalehour
    WHERE channel = %s
    ORDER BY hour -- as in mark_stale.sql: no deadlock
    FOR UPDATE
) AS marked
WHERE s.channel = marked.channel AND s.hour = marked.hour
