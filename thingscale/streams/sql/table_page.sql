-- Rows of a channel for a table, newest first, before the key of the last row shown.
SELECT d.at, d.id, t.name, coalesce(v.device_id, x.device_id), left(d.value::text, %(characters)s)
FROM (
    SELECT at, id, tag, device, value
    FROM datapoint
    WHERE $selected
        AND (at, id) < (%(before_at)s::timestamptz, %(before_id)s::bigint)
    ORDER BY at DESC, id DESC
    LIMIT %(rows)s
) AS d
LEFT JOIN streams_tag t ON t.id = d.tag
LEFT JOIN devices_device v ON v.id = d.device
LEFT JOIN devices_deleteddevice x ON x.device = d.device
ORDER BY d.at DESC, d.id DESC
