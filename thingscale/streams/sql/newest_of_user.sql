-- The newest datapoints of a user's channels. Only as many channels can have them, those that got datapoints last.
-- Leaves out deleted tags, whose datapoints wait to be purged.
WITH heard AS (
    SELECT l.channel_id AS channel, max(l.at) AS at
    FROM streams_latest l JOIN streams_channel c ON c.id = l.channel_id
    WHERE c.user_id = %(user)s AND l.tag NOT IN (SELECT tag FROM streams_deletedtag)
    GROUP BY l.channel_id ORDER BY max(l.at) DESC LIMIT %(rows)s
), newest AS (
    SELECT d.* FROM heard h CROSS JOIN LATERAL (
        SELECT channel, at, id, device, tag, left(value::text, %(preview)s) AS value
        FROM datapoint WHERE channel = h.channel AND at <= h.at
            AND (tag IS NULL OR tag NOT IN (SELECT tag FROM streams_deletedtag))
        ORDER BY at DESC, id DESC LIMIT %(rows)s
    ) d
    ORDER BY d.at DESC, d.id DESC LIMIT %(rows)s
)
SELECT n.at, coalesce(v.device_id, x.device_id), v.id, t.name, c.number, n.value
FROM newest n JOIN streams_channel c ON c.id = n.channel
LEFT JOIN devices_device v ON v.id = n.device
LEFT JOIN devices_deleteddevice x ON x.device = n.device
LEFT JOIN streams_tag t ON t.id = n.tag
ORDER BY n.at DESC, n.id DESC
