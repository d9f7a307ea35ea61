-- Unmarks hours and deletes their rollups, before new ones are saved. Hours that were marked again meanwhile stay.
WITH settled AS (
    SELECT s.channel, s.hour
    FROM streams_stalehour AS s
    JOIN unnest(%s::bigint[], %s::timestamptz[], %s::bigint[]) AS read (channel, hour, version)
    USING (channel, hour, version)
    ORDER BY s.channel, s.hour -- as in mark_stale.sql: no deadlock
    FOR UPDATE OF s
), unmarked AS (
    DELETE FROM streams_stalehour AS s USING settled WHERE s.channel = settled.channel AND s.hour = settled.hour
), gone AS (
    DELETE FROM streams_rollup AS r USING settled WHERE r.channel = settled.channel AND r.hour = settled.hour
)
SELECT channel, hour FROM settled
