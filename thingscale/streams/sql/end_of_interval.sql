-- The first or the last whole value of each bucket, an expression over `at`; order is ASC or DESC.
SELECT DISTINCT ON (bucket) $bucket AS bucket, '{}'::text[], value::text
FROM datapoint
WHERE $selected
ORDER BY bucket, at $order, id $order
LIMIT %(rows)s
