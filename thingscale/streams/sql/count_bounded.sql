-- How many datapoints a selection has; counts up to %(rows)s only.
SELECT count(*)
FROM (
    SELECT
    FROM datapoint
    WHERE $selected
    LIMIT %(rows)s
) AS bounded
