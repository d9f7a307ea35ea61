-- The places of the readings that are datapoints already. Most are newer than all of their channel and tag,
-- which the newest value tells; the others are looked for by channel and time.
WITH asked AS MATERIALIZED (
    SELECT k.* FROM unnest(
        %(channels)s::bigint[], %(times)s::timestamptz[], %(devices)s::bigint[], %(tags)s::int[], %(values)s::text[]
    ) WITH ORDINALITY AS k (channel, at, device, tag, value, place)
    JOIN streams_latest AS l ON l.channel_id = k.channel AND l.tag = coalesce(k.tag, 0)
    WHERE k.at <= l.at
)
SELECT a.place
FROM asked AS a
JOIN datapoint AS d ON d.channel = a.channel AND d.at = a.at
WHERE d.at BETWEEN %(first)s AND %(last)s AND d.device = a.device
    AND d.tag IS NOT DISTINCT FROM a.tag AND d.value = a.value::jsonb
