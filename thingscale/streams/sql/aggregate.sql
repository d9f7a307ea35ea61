-- One aggregate for each path to a number inside the values: '{}' for values that are plain numbers,
-- '{temp}', '{gps,lat}'. $aggregate is an expression over `value`. Only nested objects are walked
-- recursively: flat ones, which are nearly all, would pay for it four times over.
WITH RECURSIVE selected AS NOT MATERIALIZED (
    SELECT value, jsonb_typeof(value) AS type
    FROM datapoint
    WHERE channel = %(channel)s
        AND at BETWEEN %(start)s AND %(end)s
        AND (%(tag)s::int IS NULL OR tag = %(tag)s)
), member AS NOT MATERIALIZED (
    SELECT e.key, e.value, jsonb_typeof(e.value) AS type
    FROM selected
    CROSS JOIN jsonb_each(CASE selected.type WHEN 'object' THEN selected.value ELSE '{}' END) AS e
), nested AS (
    SELECT ARRAY[key] AS path, value, type FROM member WHERE type = 'object'
    UNION ALL
    SELECT path || e.key, e.value, jsonb_typeof(e.value)
    FROM nested
    CROSS JOIN jsonb_each(CASE nested.type WHEN 'object' THEN nested.value ELSE '{}' END) AS e
)
SELECT '{}'::text[] AS path, ($aggregate)::text FROM selected WHERE type = 'number' HAVING count(*) > 0
UNION ALL
SELECT ARRAY[key], ($aggregate)::text FROM member WHERE type = 'number' GROUP BY key
UNION ALL
SELECT path, ($aggregate)::text FROM nested WHERE type = 'number' GROUP BY path
ORDER BY path
