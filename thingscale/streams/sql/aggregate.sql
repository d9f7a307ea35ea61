-- One aggregate for each path to a number inside the values, in each bucket. The path is '{}' for plain numbers, else
-- for example '{temp}' or '{gps,lat}'. Filled in: `bucket`, an expression over `at`; `aggregate`, over `value`; `value`,
-- over the value of a datapoint. Only nested objects are walked recursively: for flat ones, which are nearly all, that
-- would take four times as long.
WITH RECURSIVE shown AS NOT MATERIALIZED (
    SELECT $bucket AS bucket, $value AS value
    FROM datapoint
    WHERE $selected
), selected AS NOT MATERIALIZED (
    SELECT bucket, value, jsonb_typeof(value) AS type FROM shown
), member AS NOT MATERIALIZED (
    SELECT selected.bucket, e.key, e.value, jsonb_typeof(e.value) AS type
    FROM selected
    CROSS JOIN jsonb_each(CASE selected.type WHEN 'object' THEN selected.value ELSE '{}' END) AS e
), nested AS (
    SELECT bucket, ARRAY[key] AS path, value, type FROM member WHERE type = 'object'
    UNION ALL
    SELECT nested.bucket, path || e.key, e.value, jsonb_typeof(e.value)
    FROM nested
    CROSS JOIN jsonb_each(CASE nested.type WHEN 'object' THEN nested.value ELSE '{}' END) AS e
)
SELECT bucket, '{}'::text[] AS path, ($aggregate)::text
FROM selected WHERE type = 'number' GROUP BY bucket
UNION ALL
SELECT bucket, ARRAY[key], ($aggregate)::text FROM member WHERE type = 'number' GROUP BY bucket, key
UNION ALL
SELECT bucket, path, ($aggregate)::text FROM nested WHERE type = 'number' GROUP BY bucket, path
ORDER BY bucket, path
LIMIT %(rows)s
