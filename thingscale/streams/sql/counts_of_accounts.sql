-- How many of each limited thing accounts have. Of value keys, it is the number in the channel with the most labels.
-- The limits of a gateway's memory are for each gateway, so these are figures of the gateway where an account uses most.
WITH living AS MATERIALIZED (
    SELECT l.objid::bigint AS gateway FROM pg_locks AS l
    WHERE l.locktype = 'advisory' AND l.classid = 7465
        AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
)
SELECT
    u.id,
    (SELECT count(*) FROM devices_device AS d WHERE d.user_id = u.id),
    (SELECT count(*) FROM streams_channel AS c WHERE c.user_id = u.id),
    (SELECT count(*) FROM streams_tag AS t JOIN streams_channel AS c ON c.id = t.channel_id WHERE c.user_id = u.id),
    (SELECT coalesce(max(jsonb_array_length(c.streams)), 0) FROM streams_channel AS c WHERE c.user_id = u.id),
    (SELECT count(*) FROM events_event AS e WHERE e.user_id = u.id),
    (SELECT count(*) FROM devices_activationrule AS r WHERE r.user_id = u.id),
    (SELECT count(*) FROM mqtt_session AS s WHERE s.account_id = u.id AND s.expiry > 0),
    (
        SELECT count(*) FROM devices_mqttsession AS m
        WHERE m.user_id = u.id AND m.gateway IN (SELECT l.gateway FROM living AS l)
    ),
    coalesce(uses.subscriptions, 0),
    coalesce(uses.unread_bytes, 0)
FROM accounts_user AS u
CROSS JOIN LATERAL (
    SELECT max(g.subscriptions) AS subscriptions, max(g.unread_bytes) AS unread_bytes
    FROM devices_gatewayuse AS g
    WHERE g.user_id = u.id AND g.gateway IN (SELECT l.gateway FROM living AS l)
) AS uses
WHERE u.id = ANY (%s)
