-- What a chart shows of `source` (see min_max.sql): all buckets of the first %(series)s series, those of named paths
-- before others; and one bucket of each other series, so that these can be counted.
SELECT path, tag, bucket, count, low[1], low[2], high[1], high[2]
FROM (
    SELECT
        *,
        dense_rank() OVER (ORDER BY path <> ALL (%(named)s::text[]), path COLLATE "C", tag) AS place,
        row_number() OVER (PARTITION BY path, tag) AS nth
    FROM ($source) AS found
) AS ranked
WHERE place <= %(series)s OR nth = 1
