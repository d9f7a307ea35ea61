-- The newest value of each tag of these devices, of channels that no other device writes to: what is there is theirs.
SELECT d.id, coalesce(t.name, ''), date_part('epoch', l.at), l.value::text
FROM devices_device d
JOIN streams_latest l ON l.channel_id = d.mapped_channel_id
LEFT JOIN streams_tag t ON t.id = l.tag
WHERE d.id = ANY (%(devices)s)
    AND (l.tag = 0 OR t.name ~ %(tags)s)
    AND pg_column_size(l.value) <= 65536 -- as it is stored: a larger one is not of a host
    AND NOT EXISTS (SELECT FROM streams_deletedtag g WHERE g.tag = l.tag)
    AND NOT EXISTS (
        SELECT FROM devices_device o WHERE o.mapped_channel_id = d.mapped_channel_id AND o.id <> d.id
    )
ORDER BY d.id
