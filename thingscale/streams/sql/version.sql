-- What changes whenever a channel's datapoints, tags or labels do: each write of datapoints, and each deletion of
-- any, changes totals; `xmin` tells two apart that come to the same.
SELECT
    (SELECT md5(streams::text) FROM streams_channel WHERE id = %(channel)s),
    (SELECT sum(hashtext(name)::bigint) FROM streams_tag WHERE channel_id = %(channel)s),
    count(*), sum(count), sum(bytes), max(at)::text, sum(xmin::text::bigint)
FROM streams_latest
WHERE channel_id = %(channel)s
    AND tag NOT IN (SELECT d.tag FROM streams_deletedtag d WHERE d.channel = %(channel)s)
