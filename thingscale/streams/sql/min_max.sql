-- The lowest and the highest of the numbers (numbers.sql), each with its time, and how many there are: of each
-- path, in each bucket, an expression over `ms`. Left out: those that no double holds, and endless paths.
$numbers
SELECT
    tag, path, $bucket AS bucket, count(*) AS count,
    min(ARRAY[v::float8, ms]) AS low,
    max(ARRAY[v::float8, ms]) AS high
FROM number
WHERE (abs(v) BETWEEN 1e-300 AND 1e300 OR v = 0) AND length(path) <= 200
GROUP BY tag, path, bucket
