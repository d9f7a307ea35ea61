-- Finds what the release before has stored, which has no submissions: by the index of negative keys, and by value.
SELECT d.channel, d.dedupe
FROM unnest(%(channels)s::bigint[], %(keys)s::bigint[], %(values)s::text[]) AS k (channel, dedupe, value)
JOIN datapoint AS d ON d.channel = k.channel AND d.dedupe = k.dedupe
WHERE d.dedupe < 0 AND d.at >= %(since)s AND d.value = k.value::jsonb
