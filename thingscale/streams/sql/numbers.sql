-- The numbers inside the values, true being 1 and false 0, each with its path and its time, `ms`, in milliseconds
-- since 1970. A plain number is the path "value", {"gps": {"lat": 1}} is "gps:lat"; a colon or a backslash that is
-- part of a key has a backslash before it, so that {"gps:lat": 1} is another path. Left out: numbers in lists.
-- Nested objects apart, as in aggregate.sql.
WITH RECURSIVE selected AS NOT MATERIALIZED (
    SELECT coalesce(tag, 0) AS tag, date_part('epoch', at) * 1000 AS ms, id, value
    FROM datapoint
    WHERE $selected
), member AS NOT MATERIALIZED (
    SELECT
        tag, ms, id, replace(replace(e.key, '\', '\\'), ':', '\:') AS path, e.value,
        jsonb_typeof(e.value) AS type
    FROM selected
    CROSS JOIN jsonb_each(
        CASE jsonb_typeof(selected.value) WHEN 'object' THEN selected.value
        ELSE jsonb_build_object('value', selected.value) END
    ) AS e
), nested AS (
    SELECT tag, ms, id, path, value, type FROM member WHERE type = 'object'
    UNION ALL
    SELECT
        tag, ms, id, path || ':' || replace(replace(e.key, '\', '\\'), ':', '\:'), e.value,
        jsonb_typeof(e.value)
    FROM nested
    CROSS JOIN jsonb_each(CASE nested.type WHEN 'object' THEN nested.value ELSE '{}' END) AS e
), found AS (
    SELECT tag, ms, id, path, value, type FROM member WHERE type IN ('number', 'boolean')
    UNION ALL
    SELECT tag, ms, id, path, value, type FROM nested WHERE type IN ('number', 'boolean')
), number AS (
    SELECT
        tag, ms, id, path,
        CASE type WHEN 'number' THEN value::numeric WHEN 'boolean' THEN value::boolean::int END AS v
    FROM found
)
