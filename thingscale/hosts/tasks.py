"""Background work on hosts. It takes two seconds at most, and pages wait for it: so it is no maintenance."""

from thingscale.celery import app
from thingscale.hosts import look as looking

_after = 0  # where the next look of this process begins


@app.task(name="hosts.look")
def look() -> None:
    global _after  # noqa: PLW0603
    _after = looking.look(_after)


@app.task(name="hosts.find")
def find() -> None:
    looking.find()
