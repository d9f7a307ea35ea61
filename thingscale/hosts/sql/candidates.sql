-- Devices that may be hosts, by the names of what they send.
SELECT DISTINCT d.id
FROM devices_device d
JOIN streams_latest l ON l.channel_id = d.mapped_channel_id
LEFT JOIN streams_tag t ON t.id = l.tag
WHERE d.enabled
    AND NOT EXISTS (SELECT FROM hosts_host h WHERE h.device_id = d.id)
    AND (l.tag = 0 AND l.value ?| %(keys)s OR t.name ~ %(tags)s)
