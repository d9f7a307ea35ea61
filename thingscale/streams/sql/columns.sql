-- The paths inside the objects among the first and the newest %(sample)s datapoints of a selection.
WITH RECURSIVE selected AS NOT MATERIALIZED (
    SELECT at, id, value
    FROM datapoint
    WHERE $selected
), sample AS (
    (SELECT value FROM selected ORDER BY at, id LIMIT %(sample)s)
    UNION ALL
    (SELECT value FROM selected ORDER BY at DESC, id DESC LIMIT %(sample)s)
), member AS (
    SELECT ARRAY[e.key] AS path, e.value
    FROM sample
    CROSS JOIN jsonb_each(CASE jsonb_typeof(sample.value) WHEN 'object' THEN sample.value ELSE '{}' END) AS e
    UNION ALL
    SELECT path || e.key, e.value
    FROM member
    CROSS JOIN jsonb_each(CASE jsonb_typeof(member.value) WHEN 'object' THEN member.value ELSE '{}' END) AS e
)
SELECT DISTINCT path
FROM member
WHERE jsonb_typeof(value) <> 'object' OR value = '{}'
ORDER BY path
LIMIT %(columns)s
