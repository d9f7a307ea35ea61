-- A page, read_page.sql. How large it is written out can't be told before: the text of one that is larger than it
-- may be is kept back, and only its length is told.
SELECT
    count,
    CASE WHEN octet_length(text) <= %(bytes)s OR count = 1 THEN text END,
    last_at,
    last_id,
    large,
    octet_length(text)
FROM ($page) AS page (count, text, last_at, last_id, large)
