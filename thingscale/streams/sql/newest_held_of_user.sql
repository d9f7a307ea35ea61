-- The newest held messages, of the devices that can't store and were heard last. Goes step by step: with one LIMIT, the
-- planner would go through the held messages of all accounts, backwards.
WITH holding AS MATERIALIZED (
    SELECT d.id AS pk, d.device_id, d.activate_at
    FROM devices_device d LEFT JOIN devices_activity a ON a.device_id = d.id
    WHERE d.user_id = %(user)s AND (d.activate_at IS NULL OR d.mapped_channel_id IS NULL)
    ORDER BY coalesce(a.last_seen, d.created_at) DESC LIMIT 100
), held AS MATERIALIZED (
    SELECT h.id, d.pk, d.device_id, d.activate_at
    FROM holding d JOIN devices_heldmessage h ON h.device_id = d.pk
), newest AS MATERIALIZED (
    SELECT * FROM held ORDER BY id DESC LIMIT %(rows)s
)
SELECT h.received_at, n.device_id, n.pk, h.tag, left(h.value::text, %(preview)s), n.activate_at IS NULL
FROM newest n JOIN devices_heldmessage h ON h.id = n.id
ORDER BY n.id DESC
