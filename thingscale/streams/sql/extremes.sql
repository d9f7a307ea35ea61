-- The lowest and the highest number, each with its time, and how many there are: of each path inside the values,
-- in each bucket, an expression over `ms`, milliseconds since 1970. A plain number is the path "value",
-- {"gps": {"lat": 1}} is "gps:lat". Left out: numbers in lists, those that no double holds, and endless paths.
-- Nested objects apart, as in aggregate.sql.
WITH RECURSIVE selected AS NOT MATERIALIZED (
    SELECT coalesce(tag, 0) AS tag, date_part('epoch', at) * 1000 AS ms, value
    FROM datapoint
    WHERE $selected
), member AS NOT MATERIALIZED (
    SELECT tag, ms, e.key AS path, e.value, jsonb_typeof(e.value) AS type
    FROM selected
    CROSS JOIN jsonb_each(
        CASE jsonb_typeof(selected.value) WHEN 'object' THEN selected.value
        ELSE jsonb_build_object('value', selected.value) END
    ) AS e
), nested AS (
    SELECT tag, ms, path, value, type FROM member WHERE type = 'object'
    UNION ALL
    SELECT tag, ms, path || ':' || e.key, e.value, jsonb_typeof(e.value)
    FROM nested
    CROSS JOIN jsonb_each(CASE nested.type WHEN 'object' THEN nested.value ELSE '{}' END) AS e
), number AS (
    SELECT tag, ms, path, CASE type WHEN 'number' THEN value::numeric END AS v
    FROM member WHERE type = 'number'
    UNION ALL
    SELECT tag, ms, path, CASE type WHEN 'number' THEN value::numeric END
    FROM nested WHERE type = 'number'
)
SELECT
    tag, path, $bucket AS bucket, count(*) AS count,
    min(ARRAY[v::float8, ms]) AS low,
    max(ARRAY[v::float8, ms]) AS high
FROM number
WHERE (abs(v) BETWEEN 1e-300 AND 1e300 OR v = 0) AND length(path) <= 200
GROUP BY tag, path, bucket
