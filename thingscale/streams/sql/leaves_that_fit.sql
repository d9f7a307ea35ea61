-- The leaves of an aggregate. If all together have more than %(bytes)s bytes, at least one comes without its text.
SELECT bucket, path, CASE WHEN total <= %(bytes)s THEN text END
FROM (
    SELECT
        bucket, path, text,
        sum(octet_length(text) + octet_length(array_to_string(path, ''))) OVER () AS total,
        row_number() OVER (ORDER BY bucket, path) AS nth
    FROM ($leaves) AS leaf (bucket, path, text)
) AS numbered
WHERE total <= %(bytes)s OR nth = 1
ORDER BY nth
