-- The datapoints of a page. A large value may have megabytes when it is written out, and how many can't be told
-- without doing it. What PostgreSQL has compressed or stored apart has more than 2 kB.
SELECT at, id, tag, $device AS device, value,
    (pg_column_compression(value) IS NOT NULL OR pg_column_size(value) > 2000)::int AS large
FROM datapoint
WHERE $selected
    AND (at, id) $beyond (%(after_at)s::timestamptz, %(after_id)s::bigint)
ORDER BY at $order, id $order
LIMIT %(rows)s
