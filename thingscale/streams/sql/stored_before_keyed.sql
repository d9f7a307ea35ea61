-- By the index of negative keys.
SELECT d.channel, d.dedupe
FROM unnest(%(channels)s::bigint[], %(keys)s::bigint[]) AS k (channel, dedupe)
JOIN datapoint AS d ON d.channel = k.channel AND d.dedupe = k.dedupe
WHERE d.dedupe < 0 AND d.at >= %(since)s
