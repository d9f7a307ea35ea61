-- The rollups of a channel's hours from `source`, see extremes.sql; a bucket is the number of an hour since 1970.
INSERT INTO streams_rollup (channel, hour, tag, path, numbers, low, low_ms, high, high_ms)
SELECT %(channel)s, to_timestamp(bucket * 3600), tag, path, count, low[1], low[2], high[1], high[2]
FROM (
    SELECT *, row_number() OVER (PARTITION BY bucket, tag ORDER BY path COLLATE "C") AS nth
    FROM ($source) AS found
) AS numbered
WHERE nth <= %(paths)s -- keys that never come again must not make more rollups than datapoints
