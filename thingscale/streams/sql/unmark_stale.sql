-- An hour that was marked again meanwhile stays.
DELETE FROM streams_stalehour AS s
USING unnest(%s::bigint[], %s::timestamptz[], %s::bigint[]) AS rolled (channel, hour, version)
WHERE s.channel = rolled.channel AND s.hour = rolled.hour AND s.version = rolled.version
