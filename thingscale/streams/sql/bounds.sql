-- The time of the first and of the newest datapoint.
SELECT min(at), max(at)
FROM datapoint
WHERE $selected
