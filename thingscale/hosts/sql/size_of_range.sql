-- How many datapoints a chart of a host would read, up to a number, and how large their values are.
SELECT count(*), coalesce(sum(size), 0)
FROM (
    SELECT pg_column_size(value) AS size
    FROM datapoint
    WHERE channel = %(channel)s AND at BETWEEN %(start)s AND %(end)s
        AND (tag IS NULL OR tag IN (
            SELECT t.id FROM streams_tag t
            WHERE t.channel_id = %(channel)s AND t.name ~ %(tags)s
                AND NOT EXISTS (SELECT FROM streams_deletedtag g WHERE g.tag = t.id)
        ))
    LIMIT %(rows)s
) AS found
