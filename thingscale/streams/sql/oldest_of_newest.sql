-- Key of the oldest of the newest %(rows)s datapoints: where reading them in ascending order begins.
SELECT at::text AS key, id
FROM datapoint
WHERE $selected
ORDER BY at DESC, id DESC
OFFSET %(rows)s - 1
LIMIT 1
