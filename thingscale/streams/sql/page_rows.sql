-- The datapoints of a page. Filled in: `device`, the column or NULL; `order`, ASC or DESC; `beyond`, > or <.
SELECT at, id, tag, $device AS device, value, (
    $is_large
)::int AS large
FROM datapoint
WHERE $selected
    AND (at, id) $beyond (%(after_at)s::timestamptz, %(after_id)s::bigint)
ORDER BY at $order, id $order
LIMIT %(rows)s
