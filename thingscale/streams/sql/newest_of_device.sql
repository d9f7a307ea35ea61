-- A device's newest datapoints among the newest of its channel. The index has no devices, and looking at a bounded
-- number of rows costs the same in a channel of any size. Values may have 64 KiB, so they are cut, in the last step, so
-- that no other value is read. Leaves out deleted tags, as selected.sql does.
WITH newest AS (
    SELECT at, id, device, tag, value
    FROM datapoint
    WHERE channel = %(channel)s
        AND (tag IS NULL OR tag NOT IN (SELECT d.tag FROM streams_deletedtag d WHERE d.channel = %(channel)s))
    ORDER BY at DESC
    LIMIT %(look_at)s
), found AS (
    SELECT at, id, tag, value
    FROM newest
    WHERE device = %(device)s
    ORDER BY at DESC, id DESC
    LIMIT %(rows)s
)
SELECT
    at,
    (SELECT name FROM streams_tag WHERE id = found.tag),
    left(value::text, %(characters)s),
    length(value::text)
FROM found
ORDER BY at DESC, id DESC
