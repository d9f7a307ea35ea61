-- The time of the first datapoint after so many of them.
SELECT at FROM datapoint
WHERE channel = %(channel)s AND at >= %(start)s AND at < %(end)s
ORDER BY at OFFSET %(rows)s LIMIT 1
