-- Marks the hours that are over since the last time, of all channels that may have datapoints in them.
INSERT INTO streams_stalehour (channel, hour)
SELECT DISTINCT l.channel_id, over.hour
FROM generate_series(%(since)s, %(until)s - interval '1 hour', interval '1 hour') AS over (hour)
JOIN streams_latest AS l ON l.at >= over.hour
ORDER BY l.channel_id, over.hour
ON CONFLICT DO NOTHING
