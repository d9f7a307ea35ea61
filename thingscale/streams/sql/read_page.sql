-- One page of a channel's datapoints as the JSON text of the contract, rows joined by commas, with the key
-- of its last row. Times are text in the session's time zone. $order is ASC or DESC, $beyond is > or <.
WITH page AS (
    SELECT at, id, tag, value
    FROM datapoint
    WHERE channel = %(channel)s
        AND at BETWEEN %(start)s AND %(end)s
        AND (%(tag)s::int IS NULL OR tag = %(tag)s)
        AND (at, id) $beyond (%(after_at)s::timestamptz, %(after_id)s::bigint)
    ORDER BY at $order, id $order
    LIMIT %(rows)s
)
SELECT
    count(*),
    coalesce(string_agg(
        '{"_id":"' || lpad(to_hex(floor(date_part('epoch', at))::bigint), 8, '0') || lpad(to_hex(id), 16, '0')
        || '","tag":' || coalesce((SELECT to_json(name)::text FROM streams_tag WHERE id = page.tag), 'null')
        || ',"value":' || value::text
        || ',"at":"' || to_char(at, 'YYYY-MM-DD"T"HH24:MI:SSTZHTZM') || '"}',
        ',' ORDER BY at $order, id $order
    ), ''),
    (array_agg(at ORDER BY at $order, id $order))[count(*)]::text,
    (array_agg(id ORDER BY at $order, id $order))[count(*)]
FROM page
