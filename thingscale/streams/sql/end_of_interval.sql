-- The first or the last datapoint of each bucket, an expression over `at`; order is ASC or DESC. Only its key, and
-- whether its value may be large (page_rows.sql): the values of all could be more than there is memory.
SELECT DISTINCT ON (bucket) bucket, at::text, id, large
FROM (
    SELECT $bucket AS bucket, at, id, pg_column_compression(value) IS NOT NULL OR pg_column_size(value) > 2000 AS large
    FROM datapoint
    WHERE $selected
) AS selected
ORDER BY bucket, at $order, id $order
LIMIT %(rows)s
