-- Hosts that have sent since their last look, those behind one of them first.
SELECT h.device_id
FROM hosts_host h
JOIN devices_device d ON d.id = h.device_id
WHERE EXISTS (
    SELECT FROM streams_latest l
    WHERE l.channel_id = d.mapped_channel_id AND date_part('epoch', l.at) > h.at
)
ORDER BY h.device_id <= %s, h.device_id
