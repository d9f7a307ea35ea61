-- Whether a value may have megabytes when it is written out: how many can't be told without doing it. What
-- PostgreSQL has compressed or stored apart has more than 2 kB.
pg_column_compression(value) IS NOT NULL OR pg_column_size(value) > 2000
