"""Background work on events that nobody waits for. Notifications are no tasks; see worker.py."""

from thingscale.celery import Maintenance, app
from thingscale.events import clean_up as cleaning


@app.task(name="events.clean_up", base=Maintenance)
def clean_up() -> None:
    cleaning.clean_up()


@app.task(name="events.forget_deliveries", base=Maintenance)
def forget_deliveries() -> None:
    cleaning.forget_deliveries()


@app.task(name="events.close_left_open", base=Maintenance)
def close_left_open() -> None:
    cleaning.close_left_open()
