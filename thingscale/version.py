"""Which release this is."""

VERSION = "0.1.0"
# Counts up with each release: processes of two that follow each other may run together on one database, as
# while machines are updated one after the other.
RELEASE = 1
