-- The first or the last whole value of each bucket, an expression over `at`; order is ASC or DESC.
SELECT DISTINCT ON (bucket) $bucket AS bucket, '{}'::text[], value::text
FROM datapoint
WHERE channel = %(channel)s
    AND at BETWEEN %(start)s AND %(end)s
    AND (%(tag)s::int IS NULL OR tag = %(tag)s)
ORDER BY bucket, at $order, id $order
LIMIT %(rows)s
