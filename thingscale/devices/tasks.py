"""Background work on devices. What also concerns channels is in streams/tasks.py."""

from celery import shared_task

from thingscale.devices import actions


@shared_task(name="devices.forget_old_activity")
def forget_old_activity() -> None:
    actions.forget_old_activity()
