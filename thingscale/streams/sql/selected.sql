-- Which datapoints a selection has. Those of a deleted tag are out of sight until they are purged.
channel = %(channel)s
AND at BETWEEN %(start)s AND %(end)s
AND (%(tag)s::int IS NULL OR tag = %(tag)s)
AND (%(device)s::bigint IS NULL OR device = %(device)s)
AND (tag IS NULL OR tag NOT IN (SELECT d.tag FROM streams_deletedtag d WHERE d.channel = %(channel)s))
