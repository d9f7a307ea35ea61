-- The time of the first and of the newest datapoint.
SELECT min(at), max(at)
FROM datapoint
WHERE channel = %(channel)s
    AND at BETWEEN %(start)s AND %(end)s
    AND (%(tag)s::int IS NULL OR tag = %(tag)s)
