-- As min_max.sql, but each number is a bucket of its own: the datapoint's id.
$numbers
SELECT tag, path, id AS bucket, 1 AS count, ARRAY[v::float8, ms] AS low, ARRAY[v::float8, ms] AS high
FROM number
WHERE (abs(v) BETWEEN 1e-300 AND 1e300 OR v = 0) AND length(path) <= 200
