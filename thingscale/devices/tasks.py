"""Background work on devices. What also concerns channels is in provisioning/tasks.py."""

from thingscale.celery import Maintenance, app
from thingscale.devices import actions


@app.task(name="devices.forget_old_activity", base=Maintenance)
def forget_old_activity() -> None:
    actions.forget_old_activity()
