-- How many datapoints a selection has, counted no further than %(rows)s.
SELECT count(*)
FROM (
    SELECT
    FROM datapoint
    WHERE $selected
    LIMIT %(rows)s
) AS bounded
