-- The first or the last datapoint of each bucket. Filled in: `bucket`, an expression over `at`; `order`, ASC or DESC.
-- Selects only keys, and whether a value is large (is_large.sql), since all values might not fit into memory.
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
