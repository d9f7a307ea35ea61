-- The time series of all channels, with one row for each datapoint. `id` is the order of arrival.
-- There is no primary key, foreign key or trigger: COPY can afford one index of all rows, and Citus can distribute it.
CREATE SEQUENCE datapoint_id;

CREATE TABLE datapoint (
    channel bigint NOT NULL,
    at timestamptz NOT NULL,
    id bigint NOT NULL DEFAULT nextval('datapoint_id'),
    device bigint,
    dedupe bigint,
    tag integer,
    value jsonb NOT NULL
) PARTITION BY RANGE (at);

CREATE INDEX datapoint_channel_at ON datapoint (channel, at);
