-- The datapoints of a chart of a host.
SELECT coalesce(t.name, ''), date_part('epoch', p.at), p.value::text
FROM datapoint p
LEFT JOIN streams_tag t ON t.id = p.tag
WHERE p.channel = %(channel)s AND p.at BETWEEN %(start)s AND %(end)s
    AND (p.tag IS NULL OR (
        t.name ~ %(tags)s AND NOT EXISTS (SELECT FROM streams_deletedtag g WHERE g.tag = p.tag)
    ))
ORDER BY p.at, p.id
