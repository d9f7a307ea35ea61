-- The places of the readings that are datapoints already, by channel and time.
SELECT k.place
FROM unnest(
    %(channels)s::bigint[], %(times)s::bigint[], %(devices)s::bigint[], %(tags)s::int[], %(values)s::text[]
) WITH ORDINALITY AS k (channel, at, device, tag, value, place)
JOIN datapoint AS d ON d.channel = k.channel AND d.at = timestamptz 'epoch' + k.at * interval '1 microsecond'
WHERE d.at BETWEEN %(first)s AND %(last)s AND d.device = k.device
    AND d.tag IS NOT DISTINCT FROM k.tag AND d.value = k.value::jsonb
