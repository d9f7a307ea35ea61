from celery import shared_task

from thingscale.heartbeat import beat


@shared_task(name="heartbeat")
def heartbeat() -> None:
    beat()
