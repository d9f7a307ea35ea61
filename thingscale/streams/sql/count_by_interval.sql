-- How many datapoints each bucket has, an expression over `at`.
SELECT $bucket AS bucket, '{}'::text[], count(*)::text
FROM datapoint
WHERE channel = %(channel)s
    AND at BETWEEN %(start)s AND %(end)s
    AND (%(tag)s::int IS NULL OR tag = %(tag)s)
GROUP BY bucket
ORDER BY bucket
LIMIT %(rows)s
