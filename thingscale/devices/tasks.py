"""Background work on devices. What also concerns channels is in streams/tasks.py."""

from thingscale.celery import app
from thingscale.devices import actions


@app.task(name="devices.forget_old_activity")
def forget_old_activity() -> None:
    actions.forget_old_activity()
