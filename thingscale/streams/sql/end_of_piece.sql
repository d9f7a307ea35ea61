-- The time of the datapoint that comes after %(rows)s others.
SELECT at FROM datapoint
WHERE channel = %(channel)s AND at >= %(start)s AND at < %(end)s
ORDER BY at OFFSET %(rows)s LIMIT 1
