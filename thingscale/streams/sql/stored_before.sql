-- No index has these keys: this reads all recent datapoints of the channels, once.
SELECT d.channel, d.dedupe
FROM (SELECT DISTINCT unnest(%(channels)s::bigint[]) AS channel) AS c
JOIN datapoint AS d ON d.channel = c.channel
JOIN unnest(%(channels)s::bigint[], %(keys)s::bigint[], %(since)s::timestamptz[]) AS k (channel, dedupe, since)
    ON k.channel = d.channel AND k.dedupe = d.dedupe AND d.at >= k.since
WHERE d.dedupe = ANY (%(keys)s) AND d.at >= %(earliest)s
