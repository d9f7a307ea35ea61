-- The numbers inside the values, each with its path and its time `ms`, in milliseconds since 1970; true is 1, false 0. A
-- plain number has the path "value"; {"gps": {"lat": 1}} has "gps:lat". A colon or a backslash inside a key has a
-- backslash before it, so that {"gps:lat": 1} is another path. Leaves out numbers in lists. Nested objects are walked
-- separately, as in aggregate.sql.
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
