-- The first or the last datapoint of each bucket, an expression over `at`; order is ASC or DESC. Only its key, and
-- whether its value is large (is_large.sql): the values of all could be more than there is memory.
SELECT DISTINCT ON (bucket) bucket, at::text, id, large
FROM (
    SELECT $bucket AS bucket, at, id, (
        $is_large
    ) AS large
    FROM datapoint
    WHERE $selected
) AS selected
ORDER BY bucket, at $order, id $order
LIMIT %(rows)s
