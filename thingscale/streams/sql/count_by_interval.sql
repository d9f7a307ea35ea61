-- How many datapoints each bucket has. `bucket` is an expression over `at`.
SELECT $bucket AS bucket, '{}'::text[], count(*)::text
FROM datapoint
WHERE $selected
GROUP BY bucket
ORDER BY bucket
LIMIT %(rows)s
