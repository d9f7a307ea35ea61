-- Values as text, each with the position of its key. If all together have too many bytes, none has a text, unless there
-- is only one.
SELECT nth, CASE WHEN sum(octet_length(text)) OVER () <= %(bytes)s OR count(*) OVER () = 1 THEN text END
FROM (
    SELECT k.nth, d.value::text AS text
    FROM unnest(%(ats)s::timestamptz[], %(ids)s::bigint[]) WITH ORDINALITY AS k (at, id, nth)
    JOIN datapoint AS d ON d.at = k.at AND d.id = k.id
    WHERE d.channel = %(channel)s
) AS found
ORDER BY nth
