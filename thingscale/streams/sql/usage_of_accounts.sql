-- How much of their storage accounts use: datapoints, held, rejected and retained messages, each with their bytes; and
-- what is queued for MQTT sessions. Devices that can store hold nothing for long, so few devices have to be looked at.
SELECT
    u.id,
    datapoints.count,
    datapoints.bytes,
    held.count,
    held.bytes,
    rejected.count,
    rejected.bytes,
    retained.count,
    retained.bytes,
    queued.bytes
FROM accounts_user AS u
CROSS JOIN LATERAL (
    SELECT coalesce(sum(l.count), 0)::bigint AS count, coalesce(sum(l.bytes), 0)::bigint AS bytes
    FROM streams_channel AS c
    JOIN streams_latest AS l ON l.channel_id = c.id
    WHERE c.user_id = u.id AND NOT EXISTS (SELECT FROM streams_deletedtag AS d WHERE d.tag = l.tag)
) AS datapoints
CROSS JOIN LATERAL (
    SELECT count(*) AS count, coalesce(sum(h.size), 0)::bigint AS bytes
    FROM devices_device AS d
    JOIN devices_heldmessage AS h ON h.device_id = d.id
    WHERE d.user_id = u.id AND NOT (d.enabled AND d.mapped_channel_id IS NOT NULL)
) AS held
CROSS JOIN LATERAL (
    SELECT count(*) AS count, coalesce(sum(octet_length(r.payload)), 0)::bigint AS bytes
    FROM devices_rejectedmessage AS r
    WHERE r.user_id = u.id
) AS rejected
CROSS JOIN LATERAL (
    SELECT count(*) AS count, coalesce(sum(octet_length(m.payload) + octet_length(m.topic)), 0)::bigint AS bytes
    FROM mqtt_retained AS m
    WHERE m.account_id = u.id
) AS retained
CROSS JOIN LATERAL (
    SELECT coalesce(sum(s.queued_bytes), 0)::bigint AS bytes
    FROM mqtt_session AS s
    WHERE s.account_id = u.id
) AS queued
WHERE u.id = ANY (%s)
