-- The datapoints of a selection. Leaves out deleted tags, whose datapoints wait to be purged.
channel = %(channel)s
AND at BETWEEN %(start)s AND %(end)s
AND (%(tag)s::int IS NULL OR tag = %(tag)s)
AND (%(devices)s::bigint[] IS NULL OR device = ANY (%(devices)s::bigint[]))
AND (tag IS NULL OR tag NOT IN (SELECT d.tag FROM streams_deletedtag d WHERE d.channel = %(channel)s))
