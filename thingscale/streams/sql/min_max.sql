-- The lowest and the highest number (numbers.sql) of each path in each bucket, each with its time; and how many numbers
-- there are. `bucket` is an expression over `ms`. Leaves out very large and very small numbers, and very long paths.
$numbers
SELECT
    tag, path, $bucket AS bucket, count(*) AS count,
    min(ARRAY[v::float8, ms]) AS low,
    max(ARRAY[v::float8, ms]) AS high
FROM number
WHERE (abs(v) BETWEEN 1e-300 AND 1e300 OR v = 0) AND length(path) <= 200
GROUP BY tag, path, bucket
