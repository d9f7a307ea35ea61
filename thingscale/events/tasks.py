"""Background work on events that nobody waits for. Notifications are no tasks; see worker.py."""

from thingscale.celery import Maintenance, app
from thingscale.events import clean_up as cleaning


@app.task(name="events.clean_up", base=Maintenance)
def clean_up() -> None:
    cleaning.clean_up()


@app.task(name="events.close_left_open", base=Maintenance)
def close_left_open() -> None:
    cleaning.close_left_open()
