-- The datapoints of a page until it has so many large values.
SELECT at, id, tag, device, value, large
FROM (
    SELECT at, id, tag, device, value,
        count(*) FILTER (WHERE large = 1) OVER (ORDER BY at $order, id $order ROWS UNBOUNDED PRECEDING) AS large
    FROM ($page_rows) AS datapoint
) AS numbered
WHERE large <= %(large)s
