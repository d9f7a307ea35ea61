-- The rollups of a channel's hours from `source` (see min_max.sql). A bucket is the number of an hour since 1970.
SELECT to_timestamp(bucket * 3600) AS hour, tag, path, count AS numbers, low, high
FROM (
    SELECT *, row_number() OVER (PARTITION BY bucket, tag ORDER BY path COLLATE "C") AS nth
    FROM ($source) AS found
) AS numbered
WHERE nth <= %(paths)s -- otherwise keys that come only once would make more rollups than datapoints
