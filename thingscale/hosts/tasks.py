"""Background work on hosts. It takes a second or two, and pages wait for it: so it is no maintenance."""

from thingscale.celery import app
from thingscale.hosts import look as looking


@app.task(name="hosts.look")
def look() -> None:
    looking.look()


@app.task(name="hosts.find")
def find() -> None:
    looking.find()
