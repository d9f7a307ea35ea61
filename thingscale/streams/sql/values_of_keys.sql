-- Values as text, with the place of each among the keys. If all together have more bytes than they may, none has a
-- text, unless there is but one.
SELECT nth, CASE WHEN sum(octet_length(text)) OVER () <= %(bytes)s OR count(*) OVER () = 1 THEN text END
FROM (
    SELECT k.nth, d.value::text AS text
    FROM unnest(%(ats)s::timestamptz[], %(ids)s::bigint[]) WITH ORDINALITY AS k (at, id, nth)
    JOIN datapoint AS d ON d.at = k.at AND d.id = k.id
    WHERE d.channel = %(channel)s
) AS found
ORDER BY nth
