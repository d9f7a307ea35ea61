-- A page (read_page.sql). Only writing it out tells its size: if it is too large, only its length is returned, not its
-- text.
SELECT
    count,
    CASE WHEN octet_length(text) <= %(bytes)s OR count = 1 THEN text END,
    last_at,
    last_id,
    large,
    octet_length(text)
FROM ($page) AS page (count, text, last_at, last_id, large)
