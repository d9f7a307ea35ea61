-- Whether a value may have megabytes when it is written out. It is a guess, since only writing it out would tell: a
-- value that PostgreSQL has compressed or stored separately has more than 2 kB.
pg_column_compression(value) IS NOT NULL OR pg_column_size(value) > 2000
