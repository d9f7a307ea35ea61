-- Changes with a channel's datapoints, tags or labels: each write and each deletion of datapoints changes its totals.
-- `xmin` tells two changes apart that result in the same totals.
SELECT
    (SELECT md5(streams::text) FROM streams_channel WHERE id = %(channel)s),
    (SELECT sum(hashtext(name)::bigint) FROM streams_tag WHERE channel_id = %(channel)s),
    count(*), sum(count), sum(bytes), max(at)::text, sum(xmin::text::bigint)
FROM streams_latest
WHERE channel_id = %(channel)s
    AND tag NOT IN (SELECT d.tag FROM streams_deletedtag d WHERE d.channel = %(channel)s)
