-- No index has these keys: all recent datapoints of the channels are read, once.
SELECT d.channel, d.dedupe
FROM (SELECT DISTINCT unnest(%(channels)s::bigint[]) AS channel) AS c
JOIN datapoint AS d ON d.channel = c.channel
WHERE d.dedupe = ANY (%(keys)s) AND d.at >= %(since)s
