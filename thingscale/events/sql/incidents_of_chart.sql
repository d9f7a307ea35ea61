-- The newest incidents of some events that touch a time range: those that began in it, and those that lasted when it
-- began. Each branch reads a bounded part of an index: of closed incidents before the range, only the newest are looked at.
SELECT i.event_id, i.tag, i.severity, i.started_at, i.ended_at
FROM unnest(%(events)s::bigint[]) AS e (id)
CROSS JOIN LATERAL (
    (
        SELECT * FROM events_incident
        WHERE event_id = e.id AND started_at > %(start)s AND started_at <= %(end)s
        ORDER BY started_at DESC LIMIT %(most)s
    )
    UNION ALL
    SELECT * FROM (
        SELECT * FROM events_incident
        WHERE event_id = e.id AND started_at <= %(start)s
        ORDER BY started_at DESC LIMIT %(most)s
    ) AS before
    WHERE ended_at >= %(start)s
    UNION ALL
    (
        SELECT * FROM events_incident
        WHERE user_id = %(user)s AND ended_at IS NULL AND event_id = e.id AND started_at <= %(start)s
        ORDER BY started_at DESC LIMIT %(most)s
    )
) AS i
WHERE %(tag)s::text IS NULL OR i.tag = %(tag)s
ORDER BY i.started_at DESC, i.id DESC
LIMIT %(most)s
