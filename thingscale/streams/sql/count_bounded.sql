-- How many datapoints a selection has, counted no further than %(rows)s.
SELECT count(*)
FROM (
    SELECT
    FROM datapoint
    WHERE channel = %(channel)s
        AND at BETWEEN %(start)s AND %(end)s
        AND (%(tag)s::int IS NULL OR tag = %(tag)s)
    LIMIT %(rows)s
) AS bounded
