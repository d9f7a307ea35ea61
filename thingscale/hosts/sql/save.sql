-- Saves the looks at some hosts. Django's own way would take longer than all the rest.
UPDATE hosts_host h SET
    sender = r.sender, at = r.at, cpu = r.cpu, memory = r.memory, disk = r.disk, disk_name = r.disk_name,
    swap = r.swap, load = r.load, cores = r.cores, uptime = r.uptime, pain = r.pain, silent = r.silent,
    counters = r.counters
FROM jsonb_to_recordset(%s::jsonb) AS r (
    device bigint, sender text, at double precision, cpu double precision, memory double precision,
    disk double precision, disk_name text, swap double precision, load double precision,
    cores double precision, uptime double precision, pain double precision, silent boolean, counters jsonb
)
WHERE h.device_id = r.device
