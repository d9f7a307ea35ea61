-- Creates tags of channels, as far as their accounts have room for them.
WITH asked AS (
    SELECT k.channel, k.name, c.user_id, row_number() OVER (PARTITION BY c.user_id ORDER BY k.place) AS nth
    FROM unnest(%s::bigint[], %s::text[]) WITH ORDINALITY AS k (channel, name, place)
    JOIN streams_channel AS c ON c.id = k.channel
), room AS (
    SELECT u.id, u.max_tags - count(t.id) AS free
    FROM accounts_user AS u
    JOIN streams_channel AS c ON c.user_id = u.id
    LEFT JOIN streams_tag AS t ON t.channel_id = c.id
    WHERE u.id IN (SELECT user_id FROM streams_channel WHERE id = ANY (%s))
    GROUP BY u.id
)
INSERT INTO streams_tag (channel_id, name)
SELECT asked.channel, asked.name
FROM asked
JOIN room ON room.id = asked.user_id AND asked.nth <= room.free
ORDER BY asked.channel, asked.name
ON CONFLICT (channel_id, name) DO NOTHING
