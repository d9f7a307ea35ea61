-- The time of the newest datapoint.
SELECT at FROM datapoint WHERE $selected ORDER BY at DESC LIMIT 1
