-- One page of a channel's datapoints, each as text, with the key of the last one. Times are text in the
-- session's time zone. Filled in: `value`, an expression over the value of a datapoint; `row`, which makes a
-- text of _id, tag, device_id, value and shown_at; `device`, the column or NULL where no row shows it; `order`,
-- ASC or DESC; `beyond`, > or <.
-- A page ends with its row limit, or with so many large values: written out one may have megabytes, and how many
-- can't be told without doing it. What PostgreSQL has compressed or stored apart has more than 2 kB. The last
-- column says how many of these the page has.
WITH page AS (
    SELECT
        at,
        id,
        $value AS value,
        lpad(to_hex(floor(date_part('epoch', at))::bigint), 8, '0') || lpad(to_hex(id), 16, '0') AS _id,
        (SELECT name FROM streams_tag WHERE id = numbered.tag) AS tag,
        (SELECT device_id FROM devices_device WHERE id = numbered.device) AS device_id,
        to_char(at, 'YYYY-MM-DD"T"HH24:MI:SSTZHTZM') AS shown_at,
        large
    FROM (
        SELECT at, id, tag, device, value,
            count(*) FILTER (WHERE pg_column_compression(value) IS NOT NULL OR pg_column_size(value) > 2000)
                OVER (ORDER BY at $order, id $order ROWS UNBOUNDED PRECEDING) AS large
        FROM (
            SELECT at, id, tag, $device AS device, value
            FROM datapoint
            WHERE $selected
                AND (at, id) $beyond (%(after_at)s::timestamptz, %(after_id)s::bigint)
            ORDER BY at $order, id $order
            LIMIT %(rows)s
        ) AS datapoint
    ) AS numbered
    WHERE large <= %(large)s
)
SELECT
    count(*),
    coalesce(string_agg($row, %(joint)s ORDER BY at $order, id $order), ''),
    (array_agg(at ORDER BY at $order, id $order))[count(*)]::text,
    (array_agg(id ORDER BY at $order, id $order))[count(*)],
    coalesce(max(large), 0)
FROM page
