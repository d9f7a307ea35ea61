-- The datapoints of a page, up to a number of large values.
SELECT at, id, tag, device, value, large
FROM (
    SELECT at, id, tag, device, value,
        count(*) FILTER (WHERE large = 1) OVER (ORDER BY at $order, id $order ROWS UNBOUNDED PRECEDING) AS large
    FROM ($page_rows) AS datapoint
) AS numbered
WHERE large <= %(large)s
