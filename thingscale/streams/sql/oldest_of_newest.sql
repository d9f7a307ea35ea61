-- The key of the oldest of the newest %(rows)s datapoints, from where these can be read in ascending order.
SELECT at::text AS key, id
FROM datapoint
WHERE $selected
ORDER BY at DESC, id DESC
OFFSET %(rows)s - 1
LIMIT 1
