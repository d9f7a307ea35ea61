-- One page of a channel's datapoints, each as text, with the key of the last one. Times are text in the
-- session's time zone. Filled in: `value`, an expression over the value of a datapoint; `row`, which makes a
-- text of _id, tag, device_id, value and shown_at; `device`, the column or NULL where no row shows it; `order`,
-- ASC or DESC; `page_rows`, which is page_rows.sql or page_rows_until_large.sql; `is_written`, whether a row's text
-- is made. By the latter file `large` is how many large values there are up to a row. By the former, which costs
-- less, it is 1 for a row that has one: its text is not made, and the page is of no use.
-- The last column is the highest `large`.
WITH page AS (
    SELECT
        at,
        id,
        $value AS value,
        lpad(to_hex(floor(date_part('epoch', at))::bigint), 8, '0') || lpad(to_hex(id), 16, '0') AS _id,
        (SELECT name FROM streams_tag WHERE id = found.tag) AS tag,
        coalesce(
            (SELECT device_id FROM devices_device WHERE id = found.device),
            (SELECT device_id FROM devices_deleteddevice WHERE device = found.device)
        ) AS device_id,
        to_char(at, 'YYYY-MM-DD"T"HH24:MI:SSTZHTZM') AS shown_at,
        large
    FROM ($page_rows) AS found
)
SELECT
    count(*),
    coalesce(string_agg(CASE WHEN $is_written THEN $row END, %(separator)s ORDER BY at $order, id $order), ''),
    (array_agg(at ORDER BY at $order, id $order))[count(*)]::text,
    (array_agg(id ORDER BY at $order, id $order))[count(*)],
    coalesce(max(large), 0)
FROM page
