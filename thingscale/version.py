"""Which release this is."""

VERSION = "0.2.0"
# Counts up with each version, from 0.1.0 on, which is 0: processes of two that follow each other may run
# together on one database, as while machines are updated one by one (thingscale/processes/compatibility.py).
RELEASE = 1
