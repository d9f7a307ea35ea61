-- The hour stays locked until the change is committed, so that rollups can't miss the change.
INSERT INTO streams_stalehour AS s (channel, hour)
SELECT channel, hour
FROM unnest(%s::bigint[], %s::timestamptz[]) AS changed (channel, hour)
ORDER BY channel, hour -- one order for all: no deadlock
ON CONFLICT (channel, hour) DO UPDATE SET version = s.version + 1
