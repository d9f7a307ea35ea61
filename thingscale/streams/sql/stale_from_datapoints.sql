-- Marks all hours that have datapoints, for the first rollup.
INSERT INTO streams_stalehour (channel, hour)
SELECT DISTINCT channel, date_trunc('hour', at, 'UTC')
FROM datapoint
WHERE at < %(until)s
ORDER BY 1, 2
ON CONFLICT DO NOTHING
